/// <reference lib="dom" />
/// <reference types="@webgpu/types" />
/** WebGPU's types for the package's users: TypeScript 5 takes them from a package. */
export {};
