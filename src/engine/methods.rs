//! Tables of the methods that are the same on every engine, one line each. Whoever implements them passes a macro, which
//! makes its code from the rows.

/// The methods about one container. As of the tables below, each engine has a function of the method's name.
macro_rules! container_methods {
    ($then:ident) => {
        $then! {
            ContainerMethods:
            start(id: &str) -> ();
            /// `timeout` is the time in seconds before the kill; if absent, the container's own (10 s by default).
            stop(id: &str, timeout: Option<u32>) -> ();
            /// How long a stop without a `timeout` waits.
            stop_timeout(id: &str) -> StopTimeout;
            restart(id: &str, timeout: Option<u32>) -> ();
            kill(id: &str, signal: &str) -> ();
            remove(id: &str, force: bool) -> ();
            pause(id: &str) -> ();
            unpause(id: &str) -> ();
            wait(id: &str) -> WaitResult;
            update(id: &str, changes: &ContainerUpdate) -> ();
            inspect(id: &str) -> ContainerInfo;
            details(id: &str) -> ContainerDetails;
            logs(id: &str, options: &LogOptions) -> BoxStream<OutputChunk>;
            /// Reads the counters once.
            sample(id: &str) -> StatsSample;
            /// Readings, about one a second, until the container stops.
            samples(id: &str) -> BoxStream<StatsSample>;
            /// To its own process, while it runs.
            attach(id: &str, options: &AttachOptions) -> Attached;
            /// The processes in it, as the engine's machine lists them.
            processes(id: &str) -> ProcessList;
            rename(id: &str, name: &str) -> ();
            /// What is at a path in it, running or not; `None` where nothing is.
            path_kind(id: &str, path: &str) -> Option<PathKind>;
            /// A tar of what is at a path, below its last name; behind `/.`, of what a directory holds.
            read_path(id: &str, path: &str) -> BoxStream<Bytes>;
            /// Makes an image of what it has changed; returns the image's id.
            commit(id: &str, options: &CommitOptions) -> String;
        }
    };
}
pub(super) use container_methods;

/// The methods about what carries no label: the engine itself, and images.
macro_rules! unlabelled_methods {
    ($then:ident) => {
        $then! {
            UnlabelledMethods:
            /// Succeeds if the engine answers.
            ping() -> ();
            system_info() -> SystemInfo;
            disk_usage() -> DiskUsage;
            pull(image: &str, options: &PullOptions, progress: &Sink<PullProgress>) -> ();
            images() -> Vec<ImageInfo>;
            /// With a `platform`: whether the image is present for that platform.
            image_exists(image: &str, platform: Option<&str>) -> bool;
            remove_image(image: &str, force: bool) -> ();
            tag_image(image: &str, target: &str) -> ();
            save_image(images: &[String]) -> BoxStream<Bytes>;
            inspect_image(image: &str) -> ImageDetails;
            /// The newest first.
            image_history(image: &str) -> Vec<ImageHistoryEntry>;
            push(image: &str, options: &PushOptions, progress: &Sink<PullProgress>) -> ();
        }
    };
}
pub(super) use unlabelled_methods;

/// The methods about what carries a label, and are not the same for whoever calls.
macro_rules! labelled_methods {
    ($then:ident) => {
        $then! {
            LabelledMethods:
            /// Creates the container attached to all its networks, without starting it; returns the full id. On an error it
            /// removes what it has created.
            create(spec: &ContainerSpec) -> String;
            /// Starts `argv` in the container.
            exec(id: &str, argv: &[String], options: &SpawnOptions) -> Attached;
            list(options: &ListOptions) -> Vec<ContainerInfo>;
            remove_network(id: &str) -> ();
            networks() -> Vec<NetworkInfo>;
            network(id: &str) -> NetworkDetails;
            connect_network(container: &str, network: &str) -> ();
            disconnect_network(container: &str, network: &str) -> ();
            create_volume(name: &str, options: &VolumeOptions) -> String;
            remove_volume(name: &str, force: bool) -> ();
            volumes() -> Vec<VolumeInfo>;
            volume(name: &str) -> VolumeDetails;
            events(options: &EventOptions) -> BoxStream<RuntimeEvent>;
        }
    };
}
pub(super) use labelled_methods;

/// The methods of [`Adapter`](super::Adapter) that check their arguments and ask the engine once:
/// `name = engine's name(argument: type, check as "the caller's name"; …) -> answer`.
macro_rules! adapter_methods {
    ($then:ident) => {
        $then! {
            is_private = is_private() -> bool;
            ping = ping() -> ();
            system_info = system_info() -> SystemInfo;
            disk_usage = disk_usage() -> DiskUsage;

            remove_container = remove(id: &str, id_or_name as "id"; force: bool) -> ();
            pause_container = pause(id: &str, id_or_name as "id") -> ();
            unpause_container = unpause(id: &str, id_or_name as "id") -> ();
            inspect_container = inspect(id: &str, id_or_name as "id") -> ContainerInfo;
            container_details = details(id: &str, id_or_name as "id") -> ContainerDetails;
            list_processes = processes(id: &str, id_or_name as "id") -> ProcessList;

            list_images = images() -> Vec<ImageInfo>;
            remove_image = remove_image(image: &str, image as "id"; force: bool) -> ();
            tag_image = tag_image(image: &str, image as "source"; target: &str, tag as "target") -> ();
            inspect_image = inspect_image(image: &str, image as "name") -> ImageDetails;
            image_history = image_history(image: &str, image as "name") -> Vec<ImageHistoryEntry>;

            list_networks = networks() -> Vec<NetworkInfo>;
            inspect_network = network(id: &str, id_or_name as "id") -> NetworkDetails;
            remove_network = remove_network(id: &str, network_to_remove as "id") -> ();
            connect_network =
                connect_network(container: &str, id_or_name as "containerId"; network: &str, id_or_name as "networkId") -> ();
            disconnect_network =
                disconnect_network(container: &str, id_or_name as "containerId"; network: &str, id_or_name as "networkId") -> ();

            list_volumes = volumes() -> Vec<VolumeInfo>;
            inspect_volume = volume(name: &str, id_or_name as "name") -> VolumeDetails;
            remove_volume = remove_volume(name: &str, id_or_name as "name"; force: bool) -> ();
        }
    };
}
pub(super) use adapter_methods;
