//! Fuzz targets of dogpile: see `fuzz_targets/`.
