//! What crosses the boundary, and how.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use lima_runtime::{
    error::{Error, ErrorCode},
    progress::Sink,
};
use napi::{
    Env, Status,
    bindgen_prelude::{BufferSlice, FromNapiValue, JsValue, ToNapiValue, TypeName, ValidateNapiValue},
    sys,
    threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode, UnknownReturnValue},
};
use napi_derive::napi;
use serde::{Serialize, de::DeserializeOwned};
use serde_path_to_error::Segment;
use tokio::sync::mpsc;

/// An error on its way to the facade, as JSON in the message: napi drops custom codes of async functions, and the
/// facade makes the real `RuntimeError` anyway, because only there it gets a JavaScript stack
/// (docs/reference/node-api.md#errors-of-async-functions).
pub struct Failure(pub Error);

/// The core's results as napi's, whose macros know a `Result` by its name only.
pub trait OrThrow<T> {
    fn or_throw(self) -> napi::Result<T>;
}

impl<T> OrThrow<T> for lima_runtime::error::Result<T> {
    fn or_throw(self) -> napi::Result<T> {
        self.map_err(|e| Failure(e).into())
    }
}

impl From<Failure> for napi::Error {
    fn from(Failure(e): Failure) -> Self {
        let mut causes = Vec::new();
        let mut next = std::error::Error::source(&e);
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        let data = serde_json::json!({
            "code": e.code().as_str(),
            "message": e.message(),
            "hint": e.hint_text(),
            "details": e.details(),
            "causes": causes,
        });
        napi::Error::new(Status::GenericFailure, data.to_string())
    }
}

/// For the test that holds `RuntimeErrorCode` of index.d.ts against the core's list.
#[napi]
#[cfg_attr(test, allow(dead_code, reason = "a test build registers nothing with Node"))]
pub fn error_codes() -> Vec<&'static str> {
    ErrorCode::ALL.iter().map(|code| code.as_str()).collect()
}

/// A value that crosses as JSON text.
pub struct Json<T>(pub T);

impl<T: Serialize> Json<T> {
    pub fn into_text(self) -> lima_runtime::error::Result<String> {
        serde_json::to_string(&self.0).map_err(|e| Error::internal(format!("Cannot serialise an answer: {e}")))
    }
}

impl<T> TypeName for Json<T> {
    fn type_name() -> &'static str {
        "string"
    }

    fn value_type() -> napi::ValueType {
        napi::ValueType::String
    }
}

impl<T: DeserializeOwned> ValidateNapiValue for Json<T> {}

impl<T: DeserializeOwned> FromNapiValue for Json<T> {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> napi::Result<Self> {
        // SAFETY: napi passes a live env and value.
        let text = unsafe { String::from_napi_value(env, value) }?;
        parse(&text).map(Self).or_throw()
    }
}

/// Parses what a caller gave; an error names the wrong field.
pub fn parse<T: DeserializeOwned>(text: &str) -> lima_runtime::error::Result<T> {
    let mut de = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut de).map_err(wrong)
}

/// Apart from [`parse`], so that it is compiled once.
#[expect(clippy::needless_pass_by_value, reason = "of map_err")]
fn wrong(e: serde_path_to_error::Error<serde_json::Error>) -> Error {
    let message = e.inner().to_string();
    let field = field(e.path(), &message);
    match message.strip_prefix("unknown field `") {
        Some(rest) => known(rest).into_iter().fold(Error::invalid(field, "is not an option"), Error::hint),
        None => Error::invalid(field, readable(&message)),
    }
}

/// The known fields, out of serde's message: they follow the unknown one, which may contain anything.
fn known(message: &str) -> Option<String> {
    let (_, names) = message.rsplit_once("`, expected ")?;
    let names: Vec<_> = names.split('`').skip(1).step_by(2).collect();
    Some(format!("There is: {}.", names.join(", ")))
}

/// The wrong field as the caller writes it; serde names a missing one in its message only.
fn field(path: &serde_path_to_error::Path, message: &str) -> String {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let names = path.iter().map(|segment| match segment {
        Segment::Map { key } => format!(".{}", key.chars().take(60).collect::<String>()),
        other => other.to_string(),
    });
    let all: String = names.chain(missing.map(|name| format!(".{name}"))).collect();
    if all.is_empty() { "options".to_owned() } else { all.trim_start_matches('.').to_owned() }
}

/// serde_json ends its messages with a line and column of a text the caller never saw, and quotes what it was given
/// whole.
fn readable(message: &str) -> String {
    const HEAD: usize = 100;
    let message = message.split(" at line ").next().unwrap_or(message);
    let length = message.chars().count();
    if length <= 2 * HEAD {
        return message.to_owned();
    }
    let (head, tail) = (message.chars().take(HEAD), message.chars().skip(length - HEAD));
    head.chain(['…']).chain(tail).collect()
}

impl<T: Serialize> ToNapiValue for Json<T> {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        let text = value.into_text().map_err(Failure)?;
        // SAFETY: napi passes a live env.
        unsafe { String::to_napi_value(env, text) }
    }
}

/// Bytes, copied on JavaScript's thread while they cross, in either direction. Inwards: what a call still refers to
/// when it has returned can be changed, transferred to another thread and freed. Outwards: Electron takes no memory
/// that is not V8's (docs/reference/node-api.md#buffers), and no bytes beside these may be behind what a window gets.
pub struct Copied(pub Bytes);

impl TypeName for Copied {
    fn type_name() -> &'static str {
        "Uint8Array"
    }

    fn value_type() -> napi::ValueType {
        napi::ValueType::Object
    }
}

impl ValidateNapiValue for Copied {
    unsafe fn validate(env: sys::napi_env, value: sys::napi_value) -> napi::Result<sys::napi_value> {
        // SAFETY: napi passes a live env and value.
        unsafe { BufferSlice::validate(env, value) }
    }
}

impl FromNapiValue for Copied {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> napi::Result<Self> {
        // SAFETY: napi passes a live env and value, and the slice does not outlive this function.
        let slice = unsafe { BufferSlice::from_napi_value(env, value) }?;
        Ok(Self(Bytes::copy_from_slice(&slice)))
    }
}

impl ToNapiValue for Copied {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        Ok(BufferSlice::copy_from(&Env::from_raw(env), value.0)?.raw())
    }
}

/// A progress callback of the facade, which catches what the user's own throws. Weak: it keeps no process alive.
pub type ProgressCallback = ThreadsafeFunction<String, UnknownReturnValue, String, Status, false, true>;

/// A sink that ends in `callback`, for events of no call.
pub fn sink<P: Serialize + 'static>(callback: ProgressCallback) -> Sink<P> {
    Arc::new(move |event| {
        if let Ok(text) = serde_json::to_string(&event) {
            callback.call(text, ThreadsafeFunctionCallMode::NonBlocking);
        }
    })
}

/// Runs `work` with a sink that ends in `callback`. All events have been delivered when this returns: a promise
/// settles through another queue than callbacks do and could overtake them (docs/reference/node-api.md#callbacks).
pub async fn with_progress<P, T, F>(callback: Option<ProgressCallback>, work: impl FnOnce(Sink<P>) -> F) -> T
where
    P: Serialize + 'static,
    F: Future<Output = T> + Send,
{
    let (send, receive) = mpsc::unbounded_channel();
    let sink: Sink<P> = match callback {
        Some(_) => Arc::new(move |event| {
            if let Ok(text) = serde_json::to_string(&event) {
                let _ = send.send(text);
            }
        }),
        None => lima_runtime::progress::ignore(),
    };
    deliver(callback, receive, Box::pin(work(sink))).await
}

async fn deliver<T>(
    callback: Option<ProgressCallback>,
    mut events: mpsc::UnboundedReceiver<String>,
    mut work: Pin<Box<dyn Future<Output = T> + Send + '_>>,
) -> T {
    let Some(callback) = callback else { return work.await };
    let forward = async move {
        while let Some(text) = events.recv().await {
            if callback.call_async_catch(text).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(forward);
    let done = tokio::select! {
        done = &mut work => done,
        // The callback's end is not the work's.
        () = &mut forward => return work.await,
    };
    // The sink goes with the work, which ends `forward`; a sink kept by a detached task must not hold the answer.
    drop(work);
    let _ = tokio::time::timeout(LAST_EVENTS, forward).await;
    done
}

const LAST_EVENTS: std::time::Duration = std::time::Duration::from_millis(50);

/// A program's output, read as UTF-8.
pub fn text(output: Vec<u8>) -> String {
    String::from_utf8(output).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}
