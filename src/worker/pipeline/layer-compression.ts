/**
 * How BuildKit packs layers: gzip, which everybody can unpack, on a level that takes half the time of the usual one (6)
 * and makes layers hardly larger. Docker 26.1 packed a layer of 514 MB, node_modules, in 44 to 55 s on level 6 and in 22
 * to 24 s on level 4, which made an image of 745 instead of 740 MB with its files. Level 1 makes layers 15 % larger.
 */
export const COMPRESSION = "compression-level=4";
