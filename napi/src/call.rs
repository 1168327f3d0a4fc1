use std::time::Duration;

use lima_runtime::call::{Call, Warnings};
use napi::{
    bindgen_prelude::{ClassInstance, FromNapiValue, Object, TypeName, ValidateNapiValue},
    sys,
};
use napi_derive::napi;
use serde::{Deserialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use crate::convert::{Failure, OrThrow, parse};

/// Carries an `AbortSignal` into Rust, and warnings out of it. The facade listens to the signal and removes its listener
/// afterwards; napi's own AbortSignal argument has traps (docs/reference/node-api.md#abortsignal).
#[napi]
#[derive(Default)]
pub struct CancelHandle {
    token: CancellationToken,
    warnings: Warnings,
}

#[napi]
impl CancelHandle {
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    #[napi]
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// What the call would have its caller know, as errors cross.
    #[napi]
    pub fn take_warnings(&self) -> Vec<String> {
        self.warnings.take().into_iter().map(|e| napi::Error::from(Failure(e)).reason).collect()
    }
}

/// `{ handle?: CancelHandle, timeoutMs?: number, options?: string }`: how a method is called, and its own options.
pub struct NativeCall<O = NoOptions>(pub Call, pub O);

/// For a method without options of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

impl<O> TypeName for NativeCall<O> {
    fn type_name() -> &'static str {
        "NativeCall"
    }

    fn value_type() -> napi::ValueType {
        napi::ValueType::Object
    }
}

impl<O: DeserializeOwned> ValidateNapiValue for NativeCall<O> {}

impl<O: DeserializeOwned> FromNapiValue for NativeCall<O> {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> napi::Result<Self> {
        // SAFETY: napi passes a live env and value.
        let (call, options) = given(unsafe { Object::from_napi_value(env, value) }?)?;
        Ok(Self(call, parse(options.as_deref().unwrap_or("{}")).or_throw()?))
    }
}

/// Not generic over the options, so that it is compiled once.
fn given(object: Object) -> napi::Result<(Call, Option<String>)> {
    let handle = object.get::<ClassInstance<CancelHandle>>("handle")?;
    let cancel = handle.as_ref().map_or_else(CancellationToken::new, |h| h.token.clone());
    let warnings = handle.map(|h| h.warnings.clone());
    // The facade has checked that it is a finite number above zero.
    let timeout = object.get::<f64>("timeoutMs")?.map(|ms| Duration::from_secs_f64(ms / 1000.0));
    Ok((Call { cancel, timeout, since: None, warnings }, object.get("options")?))
}
