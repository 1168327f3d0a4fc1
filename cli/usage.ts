export const HELP = `lima-runtime - the container runtime of a desktop app

Usage: lima-runtime <command> [options]

Commands:
  download   Fetch the runtime into a directory that you ship with your app
  install    Install the runtime for the current user
  bake       Make a guest image in which the engine is installed, for quicker first starts
  status     Say what is installed; exits 1 when nothing can be used
  doctor     Check whether this machine can run it; exits 1 when something fails

Options of every command:
  --json     Print the result on standard output as one JSON document
  --quiet    No progress, only results and errors
  --help     Help; \`lima-runtime <command> --help\` for a command's options
  --version  The version of this package

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the bytes are not the ones the manifest names or an archive is unsafe
(nothing was installed), 130 interrupted, 143 terminated, 129 hung up.

Environment: LIMA_RUNTIME_MIRROR and LIMA_RUNTIME_MANIFEST stand for --mirror and --manifest; HTTPS_PROXY, HTTP_PROXY,
NO_PROXY and NODE_EXTRA_CA_CERTS are honoured. LIMA_RUNTIME_LOG=debug prints on standard error what goes on.`

const SOURCES = `  --mirror <url>        Take https://host/path from <url>/host/path
  --manifest <file>     Versions, addresses and digests, instead of the manifest that ships with this package
  --lima-version <v>    Another version of Lima than the manifest's default`

const PLACE = `  --app-name <name>     The application's directory name (default kai-desktop)
  --app-dir <dir>       The application's data directory
  --data-dir <dir>      Where the runtime goes (default <app-dir>/lima)
  --bundled-dir <dir>   The pre-bundled runtime to take it from`

export const COMMAND_HELP = {
  download: `Usage: lima-runtime download [options]

Fetches the runtime into a directory that you ship with your app: packaged apps then install it without a network.
What is there already and whole is not fetched again; an interrupted download goes on where it ended.
Lima is unpacked where the manifest says what is in its archive, else shipped as it was published.

Options:
  --current-platform    For the machine this runs on (the default)
  --platform <name>     darwin-arm64, darwin-x64, linux-x64, linux-arm64 or win32-x64; repeatable
  --all                 For every platform the manifest has
  --component <name>    lima (the default), image, nerdctl-full, docker, docker-rootless, compose,
                        nerdctl or wsl-rootfs; repeatable
  --image-variant <v>   server (the default: it boots without a network) or minimal
  --nerdctl-version <v> Another version of nerdctl than the manifest's default
  --out <dir>           Default resources/bundled-runtime
${SOURCES}
  --json --quiet --help

Example: "download-runtime": "lima-runtime download --platform darwin-arm64 --platform darwin-x64"`,

  install: `Usage: lima-runtime install [options]

Installs the runtime for the current user: from the pre-bundled directory when there is one, else by download.

Options:
  --repair              Check every file of an installation against its record, and mend it
${PLACE}
${SOURCES}
  --json --quiet --help`,

  bake: `Usage: lima-runtime bake --out <file> [options]

Boots a VM, installs in it what a first start installs, takes out what is its own, and writes its disk as a compressed
image. The VM is removed, also after a failure. Bake for arm64 on an arm64 machine that can run VMs (see doctor), for
x64 on such an x64 one. Needs QEMU's qemu-img, and no proxy with a password.

Options:
  --out <file>          The image to write
  --url <url>           Where you will publish it: then <file>.manifest.json is written too, which names the image.
                        For the other processor bake there with --manifest and that file, else without
  --engine <name>       containerd (the default) or docker
  --nerdctl-version <v> Another version of nerdctl than the manifest's default
  --docker-version <v>  Another version of Docker than the manifest's default
  --image-variant <v>   minimal (the default) or server: the image to start from
  --data-dir <dir>      For the VM; must have none. Keeps what is downloaded. Default: a temporary one in /tmp
${SOURCES}
  --json --quiet --help

Example: lima-runtime bake --out guest-1.0-arm64.img --url https://downloads.example.com/guest-1.0-arm64.img`,

  status: `Usage: lima-runtime status [options]

Says whether the runtime is installed or pre-bundled, and where its programs are. Exits 1 when it is neither.

Options:
${PLACE}
  --json --quiet --help`,

  doctor: `Usage: lima-runtime doctor [options]

Checks this machine, the data directory, the installation, the VM and Docker. Exits 1 when a check fails.

Options:
  --engine <name>       The one that the VM is to have: containerd (the default) or docker
${PLACE}
  --json --quiet --help`,
}
