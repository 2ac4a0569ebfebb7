#![doc = "See the check of the same name."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tollgate_fuzz::directory_changes::check(data);
});
