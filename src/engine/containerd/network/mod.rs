//! Networks. nerdctl makes and removes them; to a container that exists they are attached here, because nerdctl cannot:
//! the CNI plugins are run in its network namespace, and its own record says so to nerdctl's hook at the next start
//! (docs/reference/nerdctl.md#network-commands, docs/reference/nerdctl.md#networks-of-a-container).

pub(crate) mod attach;
mod cni;
pub(crate) mod hosts;
pub(crate) mod networks;
