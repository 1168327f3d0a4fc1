//! What asynchronous methods hand to JavaScript.

use std::{cell::RefCell, collections::HashMap, future::Future, pin::Pin};

use lima_runtime::{call::aborted, error::Result as CoreResult};
use napi::{
    Env, Result,
    bindgen_prelude::{PromiseRaw, ToNapiValue},
    sys,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::convert::{Copied, Json, OrThrow};

pub type Promised<'e> = Result<PromiseRaw<'e, Answer>>;

/// Runs `work` on the runtime's threads. One kind of future and one of answer for all methods: napi and tokio make a
/// copy of their machinery for each kind they are given (docs/reference/node-api.md#code-for-each-type).
pub fn promise<T: IntoAnswer>(env: &Env, work: impl Future<Output = CoreResult<T>> + Send + 'static) -> Promised<'_> {
    let work = Box::pin(async { work.await.and_then(T::into_answer).or_throw() });
    env.spawn_future(until(end_of(env)?, work))
}

type Work = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

async fn until(end: CancellationToken, work: Work) -> Result<Answer> {
    end.run_until_cancelled_owned(work).await.unwrap_or_else(|| Err(aborted()).or_throw())
}

thread_local! {
    static ENDS: RefCell<HashMap<usize, CancellationToken>> = RefCell::default();
}

/// Cancelled when the environment ends. A worker that is terminated waits for no answer: what it asked for ends with it, else
/// each would leave its connections open for as long as its engine keeps silent.
fn end_of(env: &Env) -> Result<CancellationToken> {
    let key = env.raw() as usize;
    if let Some(end) = ENDS.with_borrow(|ends| ends.get(&key).cloned()) {
        return Ok(end);
    }
    let end = CancellationToken::new();
    ENDS.with_borrow_mut(|ends| ends.insert(key, end.clone()));
    env.add_env_cleanup_hook((key, end.clone()), |(key, end)| {
        ENDS.with_borrow_mut(|ends| ends.remove(&key));
        end.cancel();
    })?;
    Ok(end)
}

/// Everything a method can answer with.
pub enum Answer {
    Nothing,
    Flag(bool),
    Text(Option<String>),
    Bytes(Option<Copied>),
    Object(MakeObject),
}

/// Makes it, on JavaScript's thread.
type MakeObject = Box<dyn FnOnce(sys::napi_env) -> Result<sys::napi_value> + Send>;

impl Answer {
    /// One of our classes, or an object of several values.
    pub fn object<T: ToNapiValue + Send + 'static>(value: T) -> Self {
        // SAFETY: it is called with the live env that `to_napi_value` gets.
        Self::Object(Box::new(|env| unsafe { T::to_napi_value(env, value) }))
    }
}

impl ToNapiValue for Answer {
    unsafe fn to_napi_value(env: sys::napi_env, answer: Self) -> Result<sys::napi_value> {
        // SAFETY: napi passes a live env.
        unsafe {
            match answer {
                Self::Nothing => <()>::to_napi_value(env, ()),
                Self::Flag(flag) => bool::to_napi_value(env, flag),
                Self::Text(text) => Option::to_napi_value(env, text),
                Self::Bytes(bytes) => Option::to_napi_value(env, bytes),
                Self::Object(make) => make(env),
            }
        }
    }
}

/// Called where the work was done, not on JavaScript's thread.
pub trait IntoAnswer {
    fn into_answer(self) -> CoreResult<Answer>;
}

impl IntoAnswer for Answer {
    fn into_answer(self) -> CoreResult<Answer> {
        Ok(self)
    }
}

impl IntoAnswer for () {
    fn into_answer(self) -> CoreResult<Answer> {
        Ok(Answer::Nothing)
    }
}

impl IntoAnswer for bool {
    fn into_answer(self) -> CoreResult<Answer> {
        Ok(Answer::Flag(self))
    }
}

impl IntoAnswer for String {
    fn into_answer(self) -> CoreResult<Answer> {
        Ok(Answer::Text(Some(self)))
    }
}

impl<T: Serialize> IntoAnswer for Json<T> {
    fn into_answer(self) -> CoreResult<Answer> {
        self.into_text().map(|text| Answer::Text(Some(text)))
    }
}
