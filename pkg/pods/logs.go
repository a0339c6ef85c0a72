package pods

import (
	"path/filepath"
	"strconv"

	"k8s.io/apimachinery/pkg/types"
)

// DefaultPodLogsRoot is where the logs of all pods are.
const DefaultPodLogsRoot = "/var/log/pods"

// PodLogDirectory returns <root>/<namespace>_<name>_<uid>, where the pod's
// containers log; an empty root is DefaultPodLogsRoot.
func PodLogDirectory(root, namespace, name string, uid types.UID) string {
	if root == "" {
		root = DefaultPodLogsRoot
	}
	return filepath.Join(root, namespace+"_"+name+"_"+string(uid))
}

// ContainerLogPath returns the log file of one attempt, relative to the pod's
// log directory: <container>/<restartCount>.log.
func ContainerLogPath(container string, restartCount uint32) string {
	return filepath.Join(container, strconv.FormatUint(uint64(restartCount), 10)+".log")
}
