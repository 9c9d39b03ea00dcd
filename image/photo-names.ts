/** Names of photos, by which folders are searched; what a file is, its first bytes say. */

/** Endings of PNG, JPEG (Windows' browsers save .jfif, cameras with two lenses .mpo), WebP, TIFF, AVIF and HEIC. */
export const PHOTO_NAME = /\.(png|apng|jpe?g|jpe|jfif|jfi|jif|pjpe?g|pjp|mpo|webp|tiff?|avifs?|hei[cf]s?|hif)$/i;
