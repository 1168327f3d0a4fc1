// Compiling is the test: the same names for require().
import runtime = require('lima-runtime')

const docker: runtime.ContainerRuntimeAdapter = new runtime.DockerAdapter()
export const error: runtime.RuntimeError = new runtime.RuntimeError('ABORTED', docker.getRuntimeType())
