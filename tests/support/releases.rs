//! A release server in this process: one request a connection, each answered as the test says. Not that of JavaScript's tests:
//! these look at what was sent while a request is under way, and give answers that Node's server cannot.

use std::{
    collections::{HashMap, VecDeque},
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use flate2::{Compression, write::GzEncoder};
use lima_runtime::fetch::digest::Digest;
use sha2::{Digest as _, Sha256};

/// What is done to one request, in the order they come; an ordinary answer when there are no more.
#[derive(Debug, Clone)]
pub enum Fault {
    None,
    /// Close after so many bytes of the body.
    Cut(usize),
    /// Send so many bytes of the body, and then nothing until the client has gone.
    Stall(usize),
    Status(u16, &'static str),
    /// Answer 200 with the whole, whatever was asked for.
    NoRanges,
    /// Answer 206 from the first byte, whatever was asked for.
    WrongRange,
    /// Say no length, and send bytes as long as the client takes them.
    Endless,
    /// Announce so many bytes, and send the first thousand.
    Announce(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub if_range: Option<String>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, (Vec<u8>, String)>,
    faults: VecDeque<Fault>,
    requests: Vec<Request>,
    sent: usize,
}

#[derive(Clone)]
pub struct Releases {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Releases {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = server.state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = state.clone();
                // A client that has gone is no failure of the server.
                thread::spawn(move || serve(stream, &state).ok());
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A new ETag each time.
    pub fn file(&self, path: &str, body: impl Into<Vec<u8>>) {
        let mut state = self.state.lock().unwrap();
        let tag = format!("\"{}-{}\"", path.len(), state.requests.len() * 1000 + state.files.len());
        state.files.insert(path.into(), (body.into(), tag));
    }

    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().files.remove(path);
    }

    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults = faults.into_iter().collect();
    }

    /// What was asked for since the last call, and how many bytes of bodies went out. Connections that the client has
    /// left may still be served, and counted later.
    pub fn take(&self) -> (Vec<Request>, usize) {
        let mut state = self.state.lock().unwrap();
        (std::mem::take(&mut state.requests), std::mem::take(&mut state.sent))
    }

    pub fn sent(&self) -> usize {
        self.state.lock().unwrap().sent
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request = Request { path, range: None, if_range: None };
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header == "\r\n" {
            break;
        }
        if let Some((name, value)) = header.split_once(": ") {
            let value = Some(value.trim().to_owned());
            match name.to_ascii_lowercase().as_str() {
                "range" => request.range = value,
                "if-range" => request.if_range = value,
                _ => {}
            }
        }
    }
    let (fault, found) = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        (state.faults.pop_front().unwrap_or(Fault::None), state.files.get(&request.path).cloned())
    };
    let mut out = stream;
    if let Fault::Status(status, headers) = fault {
        return write!(out, "HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n");
    }
    let Some((body, tag)) = found else {
        return write!(out, "HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    if let Fault::Announce(length) = fault {
        write!(out, "HTTP/1.1 200 X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")?;
        return out.write_all(&[0; 1000]);
    }
    if matches!(fault, Fault::Endless) {
        write!(out, "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n")?;
        out.write_all(&body)?;
        loop {
            out.write_all(&[0; 16 << 10])?;
            state.lock().unwrap().sent += 16 << 10;
        }
    }
    let asked = request.range.as_deref().and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let valid = request.if_range.as_ref().is_none_or(|t| *t == tag) && !matches!(fault, Fault::NoRanges);
    let (status, from) = match asked.filter(|_| valid) {
        Some(_) if matches!(fault, Fault::WrongRange) => (206, 0),
        Some(from) if from >= body.len() => (416, body.len()),
        Some(from) => (206, from),
        None => (200, 0),
    };
    let part = &body[from..];
    write!(out, "HTTP/1.1 {status} X\r\netag: {tag}\r\ncontent-length: {}\r\nconnection: close\r\n", part.len())?;
    if status == 206 {
        write!(out, "content-range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len())?;
    }
    write!(out, "\r\n")?;
    let end = match fault {
        Fault::Cut(n) | Fault::Stall(n) => n.min(part.len()),
        _ => part.len(),
    };
    for chunk in part[..end].chunks(16 << 10) {
        // First: who has the last of them may look at once.
        state.lock().unwrap().sent += chunk.len();
        out.write_all(chunk)?;
    }
    if matches!(fault, Fault::Stall(_)) {
        // Until the client closes its end.
        while reader.read_line(&mut line)? != 0 {}
    }
    Ok(())
}

/// An archive like Lima's, of about `size` bytes that do not compress.
pub fn lima_archive(size: usize, version: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut add = |path: &str, mode: u32, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, path, data).unwrap();
    };
    add("./bin/limactl", 0o755, format!("#!/bin/sh\necho limactl version {version}\n").as_bytes());
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let noise: Vec<u8> = (0..size)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()[4]
        })
        .collect();
    add("./share/lima/lima-guestagent.Linux-x86_64.gz", 0o644, &noise);
    add("./share/lima/templates/default.yaml", 0o644, b"images: []\n");
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_mode(0o777);
    tar.append_link(&mut link, "./share/doc/lima/templates", "../../lima/templates").unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

pub fn sha256(data: &[u8]) -> String {
    Digest::of(&Sha256::digest(data)).to_string()
}

/// All paths below `dir`, sorted; what an install must not leave behind shows up here.
pub fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}
