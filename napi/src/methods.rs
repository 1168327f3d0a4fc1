//! Methods that only pass their arguments to the core's method of the same name: one line each.

/// An argument, borrowed in the form that the core takes.
pub trait Lend {
    type Lent<'a>
    where
        Self: 'a;

    fn lend(&self) -> Self::Lent<'_>;
}

macro_rules! lend {
    ($($owned:ty => $lent:ty = $how:expr;)*) => {$(
        impl Lend for $owned {
            type Lent<'a> = $lent;

            fn lend(&self) -> Self::Lent<'_> {
                $how(self)
            }
        }
    )*};
}

lend! {
    String => &'a str = String::as_str;
    Option<String> => Option<&'a str> = Option::as_deref;
    Option<f64> => Option<f64> = |number: &Option<f64>| *number;
    Vec<String> => &'a [String] = Vec::as_slice;
    bool => bool = |flag: &bool| *flag;
}

/// Lets the macro name the type where a method has options.
pub fn options<O>(options: &O) -> &O {
    options
}

/// Methods of a class that call the method of the same name on its `$core`. In `name[Options](arguments)`, the core's
/// method takes the options last. Methods under `json` return a value as JSON text, those under `made` an object of ours that is
/// made of it, those under `progress` report to a callback, those under `own` have a body of their own.
macro_rules! methods {
    (
        impl $class:ident.$core:ident;
        plain { $($(#[$p_doc:meta])* $plain:ident $([$p_options:ty])? ($($p_arg:ident: $p_type:ty),*) -> $p_ts:literal;)* }
        json { $($(#[$j_doc:meta])* $json:ident $([$j_options:ty])? ($($j_arg:ident: $j_type:ty),*);)* }
        made { $(
            $(#[$m_doc:meta])*
            $made:ident $([$m_options:ty])? ($($m_arg:ident: $m_type:ty),*) -> $m_ts:literal = $make:path;
        )* }
        progress { $($(#[$w_doc:meta])* $work:ident $([$w_options:ty])? ($($w_arg:ident: $w_type:ty),*);)* }
        own { $($own:tt)* }
    ) => {
        #[napi]
        impl $class {
            $(
                $(#[$p_doc])*
                #[napi(ts_return_type = $p_ts)]
                pub fn $plain<'e>(
                    &self,
                    env: &'e Env,
                    $($p_arg: $p_type,)*
                    #[napi(ts_arg_type = "NativeCall")] call: NativeCall$(<$p_options>)?,
                ) -> Promised<'e> {
                    let core = self.$core.clone();
                    promise(env, async move {
                        core.$plain($($p_arg.lend(),)* $(options::<$p_options>(&call.1),)? &call.0).await
                    })
                }
            )*
            $(
                $(#[$j_doc])*
                #[napi(ts_return_type = "Promise<string>")]
                pub fn $json<'e>(
                    &self,
                    env: &'e Env,
                    $($j_arg: $j_type,)*
                    #[napi(ts_arg_type = "NativeCall")] call: NativeCall$(<$j_options>)?,
                ) -> Promised<'e> {
                    let core = self.$core.clone();
                    promise(env, async move {
                        core.$json($($j_arg.lend(),)* $(options::<$j_options>(&call.1),)? &call.0).await.map(Json)
                    })
                }
            )*
            $(
                $(#[$m_doc])*
                #[napi(ts_return_type = $m_ts)]
                pub fn $made<'e>(
                    &self,
                    env: &'e Env,
                    $($m_arg: $m_type,)*
                    #[napi(ts_arg_type = "NativeCall")] call: NativeCall$(<$m_options>)?,
                ) -> Promised<'e> {
                    let core = self.$core.clone();
                    promise(env, async move {
                        let found = core.$made($($m_arg.lend(),)* $(options::<$m_options>(&call.1),)? &call.0).await?;
                        Ok($crate::promise::Answer::object($make(found)))
                    })
                }
            )*
            $(
                $(#[$w_doc])*
                #[napi(ts_return_type = "Promise<void>")]
                pub fn $work<'e>(
                    &self,
                    env: &'e Env,
                    $($w_arg: $w_type,)*
                    #[napi(ts_arg_type = "((event: string) => void) | undefined")] progress: Option<ProgressCallback>,
                    #[napi(ts_arg_type = "NativeCall")] call: NativeCall$(<$w_options>)?,
                ) -> Promised<'e> {
                    let core = self.$core.clone();
                    promise(env, async move {
                        with_progress(progress, async |sink| {
                            core.$work($($w_arg.lend(),)* $(options::<$w_options>(&call.1),)? sink, &call.0).await.map(drop)
                        })
                        .await
                    })
                }
            )*
            $($own)*
        }
    };
}
pub(crate) use methods;

/// The methods of a manager's class about the engine that it has.
macro_rules! engine_methods {
    ($class:ident) => {
        #[napi]
        impl $class {
            /// The output of the engine's program, read as UTF-8.
            #[napi(
                ts_args_type = "engine: string, args: string[], input: Uint8Array | undefined, call: NativeCall",
                ts_return_type = "Promise<string>"
            )]
            pub fn exec<'e>(
                &self,
                env: &'e Env,
                engine: Json<UserEngine>,
                args: Vec<String>,
                input: Option<Copied>,
                call: NativeCall,
            ) -> Promised<'e> {
                let runtime = self.runtime.clone();
                promise(env, async move { runtime.exec(engine.0, &args, input.map(|b| b.0), &call.0).await.map(text) })
            }

            #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<void>")]
            pub fn register_docker_context<'e>(&self, env: &'e Env, call: NativeCall<ContextOptions>) -> Promised<'e> {
                let runtime = self.runtime.clone();
                promise(env, async move { runtime.register_docker_context(call.1, &call.0).await })
            }

            #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<void>")]
            pub fn unregister_docker_context<'e>(&self, env: &'e Env, call: NativeCall<ContextName>) -> Promised<'e> {
                let runtime = self.runtime.clone();
                promise(env, async move { runtime.unregister_docker_context(call.1, &call.0).await })
            }

            /// Throws where the manager has another engine.
            #[napi(ts_args_type = "engine: string")]
            pub fn must_have(&self, engine: Json<UserEngine>) -> Result<()> {
                self.runtime.must_have(engine.0).or_throw()
            }
        }
    };
}
pub(crate) use engine_methods;
