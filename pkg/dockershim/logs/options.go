package logs

import "github.com/docker/docker/api/types/container"

// DockerLogConfig returns the log options with which every container must be created. Docker
// then keeps at most 32 MiB of records for a container, and 24 MiB right after it has rotated:
// that is how far the copy may lag before lines are lost. All options are set, so that no
// default of the daemon applies.
func DockerLogConfig() container.LogConfig {
	return container.LogConfig{Type: "json-file", Config: map[string]string{
		"max-size": "8m",
		"max-file": "4",
		"compress": "false",    // a compressed file could not be continued at an offset
		"mode":     "blocking", // the other mode drops lines under load
	}}
}

// maxRotations is how many rotated files are looked for; more than Docker keeps.
const maxRotations = 9
