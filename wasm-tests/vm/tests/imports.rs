//! Our modules ask their host for proxy-wasm and for nothing else: no WASI, no clock, no files, no sockets.

use tollgate_vm::{Hostcall, modules};

#[test]
fn every_module_imports_proxy_wasm_alone() {
    for module in modules() {
        for (from, name) in module.imports() {
            let known = Hostcall::ALL.iter().any(|call| call.import() == name);
            assert!(from == "env" && known, "{} imports {from}.{name}", module.name());
        }
    }
}

#[test]
fn every_module_says_which_abi_it_speaks() {
    for module in modules() {
        let exports = module.exports();
        let speaks = exports.iter().any(|name| name == "proxy_abi_version_0_2_1");
        assert!(speaks, "{} exports {exports:?}", module.name());
    }
}
