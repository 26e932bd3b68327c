/*
 * The functions of Math that the program does not use, in the place of the C library's, whose tables are a seventh of
 * the executable. The engine's table of Math names them all. Who calls one has made a mistake.
 */
#include "host.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

static double missing(const char *name)
{
  char why[80];
  snprintf(why, sizeof why, "a bug: Math.%s is no part of this program", name);
  _exit(failed(storage_failed, why));
}

#define MISSING(name) double name(double x UNUSED) { return missing(#name); }
#define MISSING_OF_TWO(name) double name(double x UNUSED, double y UNUSED) { return missing(#name); }

MISSING(tan) MISSING(asin) MISSING(acos) MISSING(atan)
MISSING(sinh) MISSING(cosh) MISSING(tanh) MISSING(asinh) MISSING(acosh) MISSING(atanh)
MISSING(exp) MISSING(expm1) MISSING(log) MISSING(log1p) MISSING(log2) MISSING(log10) MISSING(cbrt)
MISSING_OF_TWO(atan2) MISSING_OF_TWO(hypot)
