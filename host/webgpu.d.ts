/// <reference lib="dom" />
/** WebGPU's types for the package's users: TypeScript 6 and newer has them in its DOM library. */
export {};
