use bytes::Bytes;
use futures_util::TryStreamExt;
use lima_runtime::engine::{
    containerd::{ContainerdOptions, LocalContainerd},
    docker::{self, DockerOptions},
    *,
};
use napi::{Result, bindgen_prelude::Buffer};
use napi_derive::napi;

use crate::{
    call::NativeCall,
    convert::{Json, OrThrow, ProgressCallback, with_progress},
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
    pub stdout: Buffer,
    pub stderr: Buffer,
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

    #[napi(ts_args_type = "path: string, call: NativeCall")]
    pub async fn set_nerdctl_path(&self, path: String, call: NativeCall) -> Result<()> {
        let set = async {
            match &self.local {
                Some(local) => local.set_nerdctl_path(path).await,
                None => Ok(()),
            }
        };
        call.0.run(None, set).await.or_throw()
    }

    #[napi(ts_return_type = "string")]
    pub fn runtime_type(&self) -> Json<lima_runtime::engine::RuntimeType> {
        Json(self.adapter.runtime_type())
    }

    #[napi(ts_args_type = "call: NativeCall")]
    pub async fn ping(&self, call: NativeCall) -> Result<()> {
        self.adapter.ping(&call.0).await.or_throw()
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn system_info(&self, call: NativeCall) -> Result<Json<SystemInfo>> {
        Ok(Json(self.adapter.system_info(&call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn disk_usage(&self, call: NativeCall) -> Result<Json<DiskUsage>> {
        Ok(Json(self.adapter.disk_usage(&call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "spec: string, call: NativeCall")]
    pub async fn start_container(&self, spec: Json<ContainerSpec>, call: NativeCall) -> Result<String> {
        self.adapter.start_container(spec.0, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "id: string, timeout: number | undefined | null, call: NativeCall")]
    pub async fn stop_container(&self, id: String, timeout: Option<f64>, call: NativeCall) -> Result<()> {
        self.adapter.stop_container(&id, timeout, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "id: string, timeout: number | undefined | null, call: NativeCall")]
    pub async fn restart_container(&self, id: String, timeout: Option<f64>, call: NativeCall) -> Result<()> {
        self.adapter.restart_container(&id, timeout, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "id: string, signal: string | undefined | null, call: NativeCall")]
    pub async fn kill_container(&self, id: String, signal: Option<String>, call: NativeCall) -> Result<()> {
        self.adapter.kill_container(&id, signal.as_deref(), &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "id: string, force: boolean, call: NativeCall")]
    pub async fn remove_container(&self, id: String, force: bool, call: NativeCall) -> Result<()> {
        self.adapter.remove_container(&id, force, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "id: string, call: NativeCall")]
    pub async fn pause_container(&self, id: String, call: NativeCall) -> Result<()> {
        self.adapter.pause_container(&id, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "id: string, call: NativeCall")]
    pub async fn unpause_container(&self, id: String, call: NativeCall) -> Result<()> {
        self.adapter.unpause_container(&id, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn wait_container(&self, id: String, call: NativeCall) -> Result<Json<WaitResult>> {
        Ok(Json(self.adapter.wait_container(&id, &call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn inspect_container(&self, id: String, call: NativeCall) -> Result<Json<ContainerInfo>> {
        Ok(Json(self.adapter.inspect_container(&id, &call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn container_details(&self, id: String, call: NativeCall) -> Result<Json<ContainerDetails>> {
        Ok(Json(self.adapter.container_details(&id, &call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "options: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn list_containers(
        &self,
        options: Json<ListOptions>,
        call: NativeCall,
    ) -> Result<Json<Vec<ContainerInfo>>> {
        Ok(Json(self.adapter.list_containers(&options.0, &call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "id: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn container_stats(&self, id: String, call: NativeCall) -> Result<Json<ContainerStats>> {
        Ok(Json(self.adapter.container_stats(&id, &call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn list_images(&self, call: NativeCall) -> Result<Json<Vec<ImageInfo>>> {
        Ok(Json(self.adapter.list_images(&call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "image: string, call: NativeCall")]
    pub async fn image_exists(&self, image: String, call: NativeCall) -> Result<bool> {
        self.adapter.image_exists(&image, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "image: string, force: boolean, call: NativeCall")]
    pub async fn remove_image(&self, image: String, force: bool, call: NativeCall) -> Result<()> {
        self.adapter.remove_image(&image, force, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "image: string, target: string, call: NativeCall")]
    pub async fn tag_image(&self, image: String, target: String, call: NativeCall) -> Result<()> {
        self.adapter.tag_image(&image, &target, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "name: string, options: string, call: NativeCall")]
    pub async fn create_network(
        &self,
        name: String,
        options: Json<NetworkOptions>,
        call: NativeCall,
    ) -> Result<String> {
        self.adapter.create_network(&name, &options.0, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "id: string, call: NativeCall")]
    pub async fn remove_network(&self, id: String, call: NativeCall) -> Result<()> {
        self.adapter.remove_network(&id, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn list_networks(&self, call: NativeCall) -> Result<Json<Vec<NetworkInfo>>> {
        Ok(Json(self.adapter.list_networks(&call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "container: string, network: string, call: NativeCall")]
    pub async fn connect_network(&self, container: String, network: String, call: NativeCall) -> Result<()> {
        self.adapter.connect_network(&container, &network, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "container: string, network: string, call: NativeCall")]
    pub async fn disconnect_network(&self, container: String, network: String, call: NativeCall) -> Result<()> {
        self.adapter.disconnect_network(&container, &network, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "name: string, options: string, call: NativeCall")]
    pub async fn create_volume(&self, name: String, options: Json<VolumeOptions>, call: NativeCall) -> Result<String> {
        self.adapter.create_volume(&name, options.0, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "name: string, force: boolean, call: NativeCall")]
    pub async fn remove_volume(&self, name: String, force: bool, call: NativeCall) -> Result<()> {
        self.adapter.remove_volume(&name, force, &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn list_volumes(&self, call: NativeCall) -> Result<Json<Vec<VolumeInfo>>> {
        Ok(Json(self.adapter.list_volumes(&call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "options: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn prune(&self, options: Json<PruneOptions>, call: NativeCall) -> Result<Json<PruneResult>> {
        Ok(Json(self.adapter.prune(options.0, &call.0).await.or_throw()?))
    }

    #[napi(
        ts_args_type = "image: string, options: string, progress: ((event: string) => void) | undefined, call: NativeCall"
    )]
    pub async fn pull_image(
        &self,
        image: String,
        options: Json<PullOptions>,
        progress: Option<ProgressCallback>,
        call: NativeCall,
    ) -> Result<()> {
        with_progress(progress, |sink| self.adapter.pull_image(&image, &options.0, sink, &call.0)).await.or_throw()
    }

    #[napi(ts_args_type = "path: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn load_image_file(&self, path: String, call: NativeCall) -> Result<Json<Vec<String>>> {
        Ok(Json(self.adapter.load_image_file(path.as_ref(), &call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "upload: Upload, call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn load_image(&self, upload: &Upload, call: NativeCall) -> Result<Json<Vec<String>>> {
        Ok(Json(self.adapter.load_image(upload.reader().or_throw()?, &call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "images: string[], call: NativeCall")]
    pub async fn save_image(&self, images: Vec<String>, call: NativeCall) -> Result<ByteStream> {
        Ok(ByteStream::new(self.adapter.save_image(&images, &call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "id: string, options: string, call: NativeCall")]
    pub async fn logs(&self, id: String, options: Json<LogOptions>, call: NativeCall) -> Result<ByteStream> {
        let chunks = self.adapter.logs(&id, &options.0, &call.0).await.or_throw()?;
        Ok(ByteStream::new(chunks.map_ok(|c| c.data)))
    }

    #[napi(ts_args_type = "id: string, call: NativeCall")]
    pub async fn stream_stats(&self, id: String, call: NativeCall) -> Result<ItemStream> {
        Ok(ItemStream::new(self.adapter.stream_stats(&id, &call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "options: string, call: NativeCall")]
    pub async fn events(&self, options: Json<EventOptions>, call: NativeCall) -> Result<ItemStream> {
        Ok(ItemStream::new(self.adapter.events(&options.0, &call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "id: string, argv: string[], options: string, input: Buffer | undefined, call: NativeCall")]
    pub async fn exec(
        &self,
        id: String,
        argv: Vec<String>,
        options: Json<ExecOptions>,
        input: Option<Buffer>,
        call: NativeCall,
    ) -> Result<NativeExecOutput> {
        let input = input.map(|b| Bytes::copy_from_slice(&b));
        let out = self.adapter.exec(&id, &argv, &options.0, input, &call.0).await.or_throw()?;
        Ok(NativeExecOutput {
            exit_code: out.exit_code,
            stdout: Vec::from(out.stdout).into(),
            stderr: Vec::from(out.stderr).into(),
        })
    }
}
