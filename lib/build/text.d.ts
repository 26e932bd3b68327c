/** Files that esbuild puts into the program as text, and as bytes (lib/build/bundles.ts). */
declare module '*.rules' {
  const text: string
  export default text
}
declare module '*.conf' {
  const text: string
  export default text
}
declare module '*.service' {
  const text: string
  export default text
}
declare module '*.sh' {
  const text: string
  export default text
}
declare module '*.5' {
  const text: string
  export default text
}
declare module '*.8' {
  const text: string
  export default text
}
declare module '*.wasm' {
  const bytes: Uint8Array
  export default bytes
}
