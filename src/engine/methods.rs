//! Tables of the methods that are the same on every engine, one line each. Whoever implements them passes a macro, which
//! makes its code from the rows.

/// The methods about one container. Each takes the container's id first, and each engine has a function of its name.
macro_rules! container_methods {
    ($then:ident) => {
        $then! {
            start() -> ();
            /// `timeout` is the time in seconds before the kill; if absent, the container's own (10 s by default).
            stop(timeout: Option<u32>) -> ();
            /// How long a stop without a `timeout` waits.
            stop_timeout() -> StopTimeout;
            restart(timeout: Option<u32>) -> ();
            kill(signal: &str) -> ();
            remove(force: bool) -> ();
            pause() -> ();
            unpause() -> ();
            wait() -> WaitResult;
            inspect() -> ContainerInfo;
            details() -> ContainerDetails;
            logs(options: &LogOptions) -> BoxStream<OutputChunk>;
            /// Reads the counters once.
            sample() -> StatsSample;
            /// Readings, about one a second, until the container stops.
            samples() -> BoxStream<StatsSample>;
            attach() -> Attached;
            /// Starts `argv` in the container; returns the exec's id and its streams.
            exec(argv: &[String], options: &ExecOptions) -> (String, Attached);
        }
    };
}
pub(super) use container_methods;

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

            list_images = images() -> Vec<ImageInfo>;
            remove_image = remove_image(image: &str, image as "id"; force: bool) -> ();
            tag_image = tag_image(image: &str, image as "source"; target: &str, tag as "target") -> ();

            list_networks = networks() -> Vec<NetworkInfo>;
            remove_network = remove_network(id: &str, network_to_remove as "id") -> ();
            connect_network =
                connect_network(container: &str, id_or_name as "containerId"; network: &str, id_or_name as "networkId") -> ();
            disconnect_network =
                disconnect_network(container: &str, id_or_name as "containerId"; network: &str, id_or_name as "networkId") -> ();

            list_volumes = volumes() -> Vec<VolumeInfo>;
            remove_volume = remove_volume(name: &str, id_or_name as "name"; force: bool) -> ();
        }
    };
}
pub(super) use adapter_methods;
