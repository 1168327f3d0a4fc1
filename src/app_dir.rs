//! The application's directory.

use std::path::{Path, PathBuf};

use crate::{
    engine::validate,
    env_vars,
    error::{Error, ErrorCode, Result},
};

/// The application that this package was made for; `appName` replaces it.
pub const APP_NAME: &str = "kai-desktop";
/// Where this operating system keeps an application's data.
pub fn app_dir(app_dir: Option<&Path>, app_name: Option<&str>) -> Result<PathBuf> {
    if let Some(dir) = app_dir {
        return Ok(dir.to_owned());
    }
    let name = app_name.unwrap_or(APP_NAME);
    validate::app_name(name)?;
    let below_home = |path: &str| home::home_dir().map(|h| h.join(path));
    let base = if cfg!(target_os = "macos") {
        below_home("Library/Application Support")
    } else if cfg!(windows) {
        env_vars::get(env_vars::LOCALAPPDATA).map(PathBuf::from).or_else(|| below_home("AppData/Local"))
    } else {
        // The specification says to ignore a relative one.
        env_vars::get(env_vars::XDG_DATA_HOME)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
            .or_else(|| below_home(".local/share"))
    };
    base.map(|b| b.join(name)).ok_or_else(|| {
        Error::new(ErrorCode::InvalidArgument, "appDir: this user has no home directory to put it in")
            .detail("field", "appDir")
            .hint("Pass appDir or dataDir.")
    })
}
