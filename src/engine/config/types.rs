//! The parts of a container's configuration; the whole is [`ContainerSpec`](super::super::types::ContainerSpec).

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

// Without defaults of their own: an empty list would be one of these.

/// What a container may use.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    pub cpus: Option<f64>,
    pub cpu_shares: Option<f64>,
    /// `0-3,5`
    pub cpuset: Option<String>,
    /// A size, as the next three.
    pub memory: Option<Value>,
    /// Memory and swap together; -1 for no limit.
    pub memory_swap: Option<Value>,
    pub memory_reservation: Option<Value>,
    pub shm_size: Option<Value>,
    /// -1 for no limit.
    pub pids: Option<f64>,
    pub oom_score_adj: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TmpfsOptions {
    pub size: Option<Value>,
    /// Permissions, as `chmod` takes them.
    pub mode: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    Bind,
    Volume,
    Tmpfs,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountSpec {
    #[serde(rename = "type")]
    pub kind: MountKind,
    /// A path of the host, or a volume's name.
    pub source: Option<String>,
    pub target: String,
    #[serde(default)]
    pub read_only: bool,
    /// Of a volume.
    pub subpath: Option<String>,
    /// Of a path.
    pub propagation: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Gpus {
    All,
    Count(f64),
    Devices(Vec<String>),
}

impl<'de> Deserialize<'de> for Gpus {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Given;
        impl<'de> Visitor<'de> for Given {
            type Value = Gpus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("'all', a number, or an array of ids")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Gpus, E> {
                if text == "all" { Ok(Gpus::All) } else { Err(E::invalid_value(de::Unexpected::Str(text), &self)) }
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Gpus, E> {
                Ok(Gpus::Count(n as f64))
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Gpus, E> {
                Ok(Gpus::Count(n as f64))
            }

            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Gpus, E> {
                Ok(Gpus::Count(n))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Gpus, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = seq.next_element()? {
                    ids.push(id);
                }
                Ok(Gpus::Devices(ids))
            }
        }
        from.deserialize_any(Given)
    }
}

/// -1 means no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ulimit {
    pub soft: f64,
    pub hard: f64,
}

impl<'de> Deserialize<'de> for Ulimit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Both {
            soft: f64,
            hard: f64,
        }
        struct Given;
        impl<'de> Visitor<'de> for Given {
            type Value = Ulimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or { soft, hard }")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Ulimit, E> {
                self.visit_f64(n as f64)
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Ulimit, E> {
                self.visit_f64(n as f64)
            }

            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Ulimit, E> {
                Ok(Ulimit { soft: n, hard: n })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Ulimit, A::Error> {
                let Both { soft, hard } = Both::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Ulimit { soft, hard })
            }
        }
        from.deserialize_any(Given)
    }
}

/// A container's place in one of its networks.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointOptions {
    #[serde(default)]
    pub aliases: Vec<String>,
    pub ipv4: Option<String>,
    pub ipv6: Option<String>,
    pub mac: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logging {
    pub driver: String,
    #[serde(default)]
    pub options: std::collections::BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn values_of_several_kinds() {
        assert_eq!(from_value::<Gpus>(json!("all")).unwrap(), Gpus::All);
        assert_eq!(from_value::<Gpus>(json!(2)).unwrap(), Gpus::Count(2.0));
        assert_eq!(from_value::<Gpus>(json!(["0"])).unwrap(), Gpus::Devices(vec!["0".into()]));
        for wrong in [json!("some"), json!(true), json!({}), json!([1])] {
            assert!(from_value::<Gpus>(wrong).is_err());
        }
        assert!(from_value::<Resources>(json!([])).is_err() && from_value::<TmpfsOptions>(json!([])).is_err());
        assert!(from_value::<EndpointOptions>(json!([])).is_err() && from_value::<Resources>(json!({})).is_ok());
        assert_eq!(from_value::<Ulimit>(json!(7)).unwrap(), Ulimit { soft: 7.0, hard: 7.0 });
        assert_eq!(from_value::<Ulimit>(json!({ "soft": -1, "hard": 2.5 })).unwrap(), Ulimit { soft: -1.0, hard: 2.5 });
        for wrong in [json!("7"), json!({ "soft": 1 }), json!({ "soft": 1, "hard": 2, "x": 3 }), json!([1, 2])] {
            assert!(from_value::<Ulimit>(wrong).is_err());
        }
    }
}
