package imageservice

import (
	"testing"

	"github.com/docker/docker/api/types/system"
)

func TestTheFileSystemOfLayers(t *testing.T) {
	containerd := [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
	// /proc is a file system of its own on every machine.
	for name, tt := range map[string]struct {
		info system.Info
		want string
	}{
		"the data directory's":           {system.Info{DockerRootDir: "/proc", Driver: "self"}, "/proc"},
		"one of its own":                 {system.Info{DockerRootDir: "/", Driver: "proc"}, "/proc"},
		"not on this machine":            {system.Info{DockerRootDir: "/no/such/place", Driver: "overlay2"}, "/no/such/place"},
		"no driver":                      {system.Info{DockerRootDir: "/proc"}, "/proc"},
		"a driver that is no name":       {system.Info{DockerRootDir: "/", Driver: "../proc"}, "/proc"},
		"containerd's, and not anywhere": {system.Info{DockerRootDir: "/proc", Driver: "no-such", DriverStatus: containerd}, "/proc"},
	} {
		if got := layersDir(&tt.info); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
