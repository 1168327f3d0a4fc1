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

#[napi]
impl NativeAdapter {
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
    #[napi]
    pub fn restricted(&self, foreign: bool) -> Self {
        Self::of(self.adapter.restricted(foreign))
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<boolean>")]
    pub fn is_private<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.is_private(&call.0).await })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn ping<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.ping(&call.0).await })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn system_info<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.system_info(&call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn disk_usage<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.disk_usage(&call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "spec: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn start_container<'e>(&self, env: &'e Env, spec: Json<ContainerSpec>, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.start_container(spec.0, &call.0).await })
    }

    #[napi(
        ts_args_type = "id: string, timeout: number | undefined | null, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn stop_container<'e>(&self, env: &'e Env, id: String, timeout: Option<f64>, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.stop_container(&id, timeout, &call.0).await })
    }

    #[napi(
        ts_args_type = "id: string, timeout: number | undefined | null, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn restart_container<'e>(
        &self,
        env: &'e Env,
        id: String,
        timeout: Option<f64>,
        call: NativeCall,
    ) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.restart_container(&id, timeout, &call.0).await })
    }

    #[napi(
        ts_args_type = "id: string, signal: string | undefined | null, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn kill_container<'e>(
        &self,
        env: &'e Env,
        id: String,
        signal: Option<String>,
        call: NativeCall,
    ) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.kill_container(&id, signal.as_deref(), &call.0).await })
    }

    #[napi(ts_args_type = "id: string, force: boolean, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn remove_container<'e>(&self, env: &'e Env, id: String, force: bool, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.remove_container(&id, force, &call.0).await })
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn pause_container<'e>(&self, env: &'e Env, id: String, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.pause_container(&id, &call.0).await })
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn unpause_container<'e>(&self, env: &'e Env, id: String, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.unpause_container(&id, &call.0).await })
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn wait_container<'e>(&self, env: &'e Env, id: String, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.wait_container(&id, &call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn inspect_container<'e>(&self, env: &'e Env, id: String, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.inspect_container(&id, &call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn container_details<'e>(&self, env: &'e Env, id: String, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.container_details(&id, &call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "options: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn list_containers<'e>(&self, env: &'e Env, options: Json<ListOptions>, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.list_containers(&options.0, &call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn container_stats<'e>(&self, env: &'e Env, id: String, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.container_stats(&id, &call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn list_images<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.list_images(&call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "image: string, call: NativeCall", ts_return_type = "Promise<boolean>")]
    pub fn image_exists<'e>(&self, env: &'e Env, image: String, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.image_exists(&image, &call.0).await })
    }

    #[napi(ts_args_type = "image: string, force: boolean, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn remove_image<'e>(&self, env: &'e Env, image: String, force: bool, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.remove_image(&image, force, &call.0).await })
    }

    #[napi(ts_args_type = "image: string, target: string, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn tag_image<'e>(&self, env: &'e Env, image: String, target: String, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.tag_image(&image, &target, &call.0).await })
    }

    #[napi(ts_args_type = "name: string, options: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn create_network<'e>(
        &self,
        env: &'e Env,
        name: String,
        options: Json<NetworkOptions>,
        call: NativeCall,
    ) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.create_network(&name, &options.0, &call.0).await })
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn remove_network<'e>(&self, env: &'e Env, id: String, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.remove_network(&id, &call.0).await })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn list_networks<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.list_networks(&call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "container: string, network: string, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn connect_network<'e>(
        &self,
        env: &'e Env,
        container: String,
        network: String,
        call: NativeCall,
    ) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.connect_network(&container, &network, &call.0).await })
    }

    #[napi(ts_args_type = "container: string, network: string, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn disconnect_network<'e>(
        &self,
        env: &'e Env,
        container: String,
        network: String,
        call: NativeCall,
    ) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.disconnect_network(&container, &network, &call.0).await })
    }

    #[napi(ts_args_type = "name: string, options: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn create_volume<'e>(
        &self,
        env: &'e Env,
        name: String,
        options: Json<VolumeOptions>,
        call: NativeCall,
    ) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.create_volume(&name, options.0, &call.0).await })
    }

    #[napi(ts_args_type = "name: string, force: boolean, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn remove_volume<'e>(&self, env: &'e Env, name: String, force: bool, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.remove_volume(&name, force, &call.0).await })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn list_volumes<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.list_volumes(&call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "options: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn prune<'e>(&self, env: &'e Env, options: Json<PruneOptions>, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { adapter.prune(options.0, &call.0).await.map(Json) })
    }

    #[napi(
        ts_args_type = "image: string, options: string, progress: ((event: string) => void) | undefined, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn pull_image<'e>(
        &self,
        env: &'e Env,
        image: String,
        options: Json<PullOptions>,
        progress: Option<ProgressCallback>,
        call: NativeCall,
    ) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move {
            with_progress(progress, |sink| adapter.pull_image(&image, &options.0, sink, &call.0)).await
        })
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

    #[napi(ts_args_type = "images: string[], call: NativeCall", ts_return_type = "Promise<ByteStream>")]
    pub fn save_image<'e>(&self, env: &'e Env, images: Vec<String>, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(
            env,
            async move { Ok(Answer::ByteStream(ByteStream::new(adapter.save_image(&images, &call.0).await?))) },
        )
    }

    #[napi(ts_args_type = "id: string, options: string, call: NativeCall", ts_return_type = "Promise<ByteStream>")]
    pub fn logs<'e>(&self, env: &'e Env, id: String, options: Json<LogOptions>, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move {
            let chunks = adapter.logs(&id, &options.0, &call.0).await?;
            Ok(Answer::ByteStream(ByteStream::new(chunks.map_ok(|c| c.data))))
        })
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<ItemStream>")]
    pub fn stream_stats<'e>(&self, env: &'e Env, id: String, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { Ok(Answer::ItemStream(ItemStream::new(adapter.stream_stats(&id, &call.0).await?))) })
    }

    #[napi(ts_args_type = "options: string, call: NativeCall", ts_return_type = "Promise<ItemStream>")]
    pub fn events<'e>(&self, env: &'e Env, options: Json<EventOptions>, call: NativeCall) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move { Ok(Answer::ItemStream(ItemStream::new(adapter.events(&options.0, &call.0).await?))) })
    }

    #[napi(
        ts_args_type = "id: string, argv: string[], options: string, input: Uint8Array | undefined, call: NativeCall",
        ts_return_type = "Promise<NativeExecOutput>"
    )]
    pub fn exec<'e>(
        &self,
        env: &'e Env,
        id: String,
        argv: Vec<String>,
        options: Json<ExecOptions>,
        input: Option<Copied>,
        call: NativeCall,
    ) -> Promised<'e> {
        let adapter = self.adapter.clone();
        promise(env, async move {
            let out = adapter.exec(&id, &argv, &options.0, input.map(|b| b.0), &call.0).await?;
            Ok(Answer::Output(NativeExecOutput {
                exit_code: out.exit_code,
                stdout: Copied(out.stdout),
                stderr: Copied(out.stderr),
            }))
        })
    }
}
