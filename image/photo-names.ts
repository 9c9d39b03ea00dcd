/** Names of photos, by which folders are searched; what a file is, its first bytes say. */

/** Endings of PNG, JPEG (Windows' browsers save .jfif, cameras with two lenses .mpo) and WebP. */
export const PHOTO_NAME = /\.(png|apng|jpe?g|jpe|jfif|jfi|jif|pjpe?g|pjp|mpo|webp)$/i;
