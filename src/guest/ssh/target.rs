//! How to reach a guest.

use std::path::PathBuf;

/// How to reach one guest.
#[derive(Debug, Clone)]
pub struct SshTarget {
    pub host: std::net::IpAddr,
    pub port: u16,
    pub user: String,
    /// An unencrypted OpenSSH private key.
    pub identity: PathBuf,
    /// The file of the guest's host key, in OpenSSH's format. It exists before the first connection; a server with another
    /// key is not the guest.
    pub pin: PathBuf,
    pub containerd_socket: String,
    /// The program that logs in where the library cannot.
    pub program: Option<SshProgram>,
}

/// What `ssh -F` needs.
#[derive(Debug, Clone)]
pub struct SshProgram {
    /// Lima's own file, of the current boot.
    pub config: PathBuf,
    /// The guest's name in it.
    pub host: String,
    /// A known_hosts file with the guest's host key under the name `host`.
    pub known_hosts: PathBuf,
}
