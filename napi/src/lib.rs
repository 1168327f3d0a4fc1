//! Node-API glue: one file per exported class. It converts and never decides; the public API is the TypeScript facade
//! in `js/`, which is the only caller.
//!
//! Values cross as JSON text, bytes are copied: the domain types have one definition (serde, in the core), and V8
//! parses a text faster than it builds the same object property by property over Node-API.

#![allow(clippy::needless_pass_by_value, reason = "napi-derive hands arguments over by value")]

mod adapter;
mod bundle;
mod bundled_manager;
mod call;
mod container_manager;
mod convert;
mod lima_manager;
mod methods;
mod process;
mod promise;
mod stream;

/// Runs when the addon is loaded.
#[cfg_attr(test, allow(dead_code, reason = "only napi's registration refers to it"))]
#[napi_derive::napi(module_exports)]
pub fn loaded(_exports: napi::bindgen_prelude::Object<'_>) -> napi::Result<()> {
    lima_runtime::log::begin();
    Ok(())
}
