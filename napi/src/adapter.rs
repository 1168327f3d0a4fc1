use futures_util::TryStreamExt;
use lima_runtime::engine::{
    containerd::{ContainerdOptions, LocalContainerd},
    docker::{self, DockerOptions},
    *,
};
use napi::{Env, Result};
use napi_derive::napi;

use crate::{
    call::NativeCall,
    convert::{Copied, Json, OrThrow, ProgressCallback, with_progress},
    methods::{Lend, methods, options},
    process::NativeProcess,
    promise::{Answer, Promised, promise},
    stream::{ByteStream, ItemStream, Upload},
};

/// One class for every backend; a static function for each makes it.
#[napi(js_name = "Adapter")]
pub struct NativeAdapter {
    adapter: Adapter,
    /// Of one whose nerdctl can be named.
    local: Option<LocalContainerd>,
}

impl NativeAdapter {
    pub fn of(adapter: Adapter) -> Self {
        Self { adapter, local: None }
    }
}

#[napi(object, object_from_js = false)]
pub struct NativeExecOutput {
    pub exit_code: i64,
    #[napi(ts_type = "Buffer")]
    pub stdout: Copied,
    #[napi(ts_type = "Buffer")]
    pub stderr: Copied,
}

methods! {
    impl NativeAdapter.adapter;
    plain {
        is_private() -> "Promise<boolean>";
        ping() -> "Promise<void>";
        stop_container(id: String, timeout: Option<f64>) -> "Promise<void>";
        restart_container(id: String, timeout: Option<f64>) -> "Promise<void>";
        kill_container(id: String, signal: Option<String>) -> "Promise<void>";
        remove_container(id: String, force: bool) -> "Promise<void>";
        pause_container(id: String) -> "Promise<void>";
        unpause_container(id: String) -> "Promise<void>";
        start_existing(id: String) -> "Promise<string>";
        rename_container(id: String, name: String) -> "Promise<void>";
        image_exists(image: String) -> "Promise<boolean>";
        remove_image(image: String, force: bool) -> "Promise<void>";
        commit_container[CommitOptions](id: String) -> "Promise<string>";
        copy_file_to_container(id: String, source: String, path: String) -> "Promise<void>";
        tag_image(image: String, target: String) -> "Promise<void>";
        create_network[NetworkOptions](name: String) -> "Promise<string>";
        remove_network(id: String) -> "Promise<void>";
        connect_network(container: String, network: String) -> "Promise<void>";
        disconnect_network(container: String, network: String) -> "Promise<void>";
        create_volume[VolumeOptions](name: String) -> "Promise<string>";
        remove_volume(name: String, force: bool) -> "Promise<void>";
    }
    json {
        system_info();
        disk_usage();
        wait_container[WaitOptions](id: String);
        inspect_container(id: String);
        container_details(id: String);
        list_containers[ListOptions]();
        container_stats(id: String);
        list_processes(id: String);
        compose_ps[ComposePsOptions](file: Option<String>, object: Option<String>);
        list_images();
        inspect_image(image: String);
        image_history(image: String);
        list_networks();
        inspect_network(id: String);
        list_volumes();
        inspect_volume(name: String);
        prune[PruneOptions]();
    }
    made {
        save_image(images: Vec<String>) -> "Promise<ByteStream>" = ByteStream::new;
        stream_stats(id: String) -> "Promise<ItemStream>" = ItemStream::new;
        watch_containers[WatchOptions]() -> "Promise<ItemStream>" = ItemStream::new;
        events[EventOptions]() -> "Promise<ItemStream>" = ItemStream::new;
        spawn[SpawnOptions](id: String, argv: Vec<String>) -> "Promise<NativeProcess>" = NativeProcess::from;
        attach[AttachOptions](id: String) -> "Promise<NativeProcess>" = NativeProcess::from;
    }
    progress {
        pull_image[PullOptions](image: String);
        push_image[PushOptions](image: String);
        compose_up[ComposeUpOptions](file: Option<String>, object: Option<String>);
        compose_down[ComposeDownOptions](file: Option<String>, object: Option<String>);
    }
    own {
        /// Connects to nothing yet.
        #[napi(factory, ts_args_type = "options: string")]
        pub fn docker(options: Json<DockerOptions>) -> Result<Self> {
            Ok(Self::of(docker::adapter(options.0).or_throw()?))
        }

        /// Connects to nothing yet.
        #[napi(factory, ts_args_type = "options: string")]
        pub fn containerd(options: Json<ContainerdOptions>) -> Result<Self> {
            let local = LocalContainerd::new(options.0).or_throw()?;
            Ok(Self { adapter: local.adapter.clone(), local: Some(local) })
        }

        #[napi(ts_args_type = "path: string, call: NativeCall", ts_return_type = "Promise<void>")]
        pub fn set_nerdctl_path<'e>(&self, env: &'e Env, path: String, call: NativeCall) -> Promised<'e> {
            let local = self.local.clone();
            promise(env, async move {
                let set = async {
                    match local {
                        Some(local) => local.set_nerdctl_path(path).await,
                        None => Ok(()),
                    }
                };
                call.0.run(None, set).await
            })
        }

        #[napi(ts_return_type = "string")]
        pub fn runtime_type(&self) -> Json<lima_runtime::engine::RuntimeType> {
            Json(self.adapter.runtime_type())
        }

        /// The same engine for those who are not trusted.
        #[napi(ts_args_type = "options: string")]
        pub fn restricted(&self, options: Json<RestrictedOptions>) -> Self {
            Self::of(self.adapter.restricted(options.0))
        }

        #[napi(ts_args_type = "spec: string, call: NativeCall", ts_return_type = "Promise<string>")]
        pub fn start_container<'e>(&self, env: &'e Env, spec: Json<ContainerSpec>, call: NativeCall) -> Promised<'e> {
            let adapter = self.adapter.clone();
            promise(env, async move { adapter.start_container(spec.0, &call.0).await })
        }

        #[napi(ts_args_type = "spec: string, call: NativeCall", ts_return_type = "Promise<string>")]
        pub fn create_container<'e>(&self, env: &'e Env, spec: Json<ContainerSpec>, call: NativeCall) -> Promised<'e> {
            let adapter = self.adapter.clone();
            promise(env, async move { adapter.create_container(spec.0, &call.0).await })
        }

        #[napi(ts_args_type = "id: string, changes: string, call: NativeCall", ts_return_type = "Promise<void>")]
        pub fn update_container<'e>(
            &self,
            env: &'e Env,
            id: String,
            changes: Json<ContainerUpdate>,
            call: NativeCall,
        ) -> Promised<'e> {
            let adapter = self.adapter.clone();
            promise(env, async move { adapter.update_container(&id, &changes.0, &call.0).await })
        }

        #[napi(ts_args_type = "path: string, call: NativeCall", ts_return_type = "Promise<string>")]
        pub fn load_image_file<'e>(&self, env: &'e Env, path: String, call: NativeCall) -> Promised<'e> {
            let adapter = self.adapter.clone();
            promise(env, async move { adapter.load_image_file(path.as_ref(), &call.0).await.map(Json) })
        }

        #[napi(ts_args_type = "upload: Upload, call: NativeCall", ts_return_type = "Promise<string>")]
        pub fn load_image<'e>(&self, env: &'e Env, upload: &Upload, call: NativeCall) -> Promised<'e> {
            let adapter = self.adapter.clone();
            let reader = upload.reader();
            promise(env, async move { adapter.load_image(reader?, &call.0).await.map(Json) })
        }

        /// `context` is a directory; `upload` a tar in its place.
        #[napi(
            ts_args_type = "context: string, upload: Upload | undefined, progress: ((event: string) => void) | undefined, call: NativeCall",
            ts_return_type = "Promise<string>"
        )]
        pub fn build_image<'e>(
            &self,
            env: &'e Env,
            context: String,
            upload: Option<&Upload>,
            progress: Option<ProgressCallback>,
            call: NativeCall<BuildOptions>,
        ) -> Promised<'e> {
            let adapter = self.adapter.clone();
            let tar = upload.map(Upload::reader).transpose();
            promise(env, async move {
                let context = tar?.map_or(BuildContext::Directory(context), BuildContext::Tar);
                let work = async |sink| adapter.build_image(context, call.1, sink, &call.0).await.map(Json);
                with_progress(progress, work).await
            })
        }

        #[napi(ts_args_type = "id: string, upload: Upload, path: string, call: NativeCall", ts_return_type = "Promise<void>")]
        pub fn copy_to_container<'e>(
            &self,
            env: &'e Env,
            id: String,
            upload: &Upload,
            path: String,
            call: NativeCall,
        ) -> Promised<'e> {
            let adapter = self.adapter.clone();
            let reader = upload.reader();
            promise(env, async move { adapter.copy_to_container(&id, reader?, &path, &call.0).await })
        }

        #[napi(ts_args_type = "id: string, path: string, call: NativeCall", ts_return_type = "Promise<ByteStream>")]
        pub fn copy_from_container<'e>(
            &self,
            env: &'e Env,
            id: String,
            path: String,
            call: NativeCall<CopyFromOptions>,
        ) -> Promised<'e> {
            let adapter = self.adapter.clone();
            promise(env, async move {
                let archive = adapter.copy_from_container(&id, &path, &call.1, &call.0).await?;
                Ok(Answer::object(ByteStream::new(archive)))
            })
        }

        #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<ByteStream>")]
        pub fn logs<'e>(&self, env: &'e Env, id: String, call: NativeCall<LogOptions>) -> Promised<'e> {
            let adapter = self.adapter.clone();
            promise(env, async move {
                let chunks = adapter.logs(&id, &call.1, &call.0).await?;
                Ok(Answer::object(ByteStream::new(chunks.map_ok(|c| c.data))))
            })
        }

        #[napi(
            ts_args_type = "id: string, argv: string[], input: Uint8Array | undefined, call: NativeCall",
            ts_return_type = "Promise<NativeExecOutput>"
        )]
        pub fn exec<'e>(
            &self,
            env: &'e Env,
            id: String,
            argv: Vec<String>,
            input: Option<Copied>,
            call: NativeCall<ExecOptions>,
        ) -> Promised<'e> {
            let adapter = self.adapter.clone();
            promise(env, async move {
                let out = adapter.exec(&id, &argv, &call.1, input.map(|b| b.0), &call.0).await?;
                Ok(Answer::object(NativeExecOutput {
                    exit_code: out.exit_code,
                    stdout: Copied(out.stdout),
                    stderr: Copied(out.stderr),
                }))
            })
        }
    }
}
