// WebGPU's usage flags as numbers, so that hosts without the global constants (Dawn in Node) need no set-up.
export const GPU_MAP_READ = 0x1;
export const GPU_COPY_SRC = 0x4;
export const GPU_COPY_DST = 0x8;
export const GPU_UNIFORM = 0x40;
export const GPU_STORAGE = 0x80;
export const GPU_QUERY_RESOLVE = 0x200;
