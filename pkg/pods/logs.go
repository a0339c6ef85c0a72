package pods

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

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

// Names of the files that a log is rotated to, the kubelet's: <log>.<time> in local time, which
// orders them by age, with a suffix once or while they are compressed.
const (
	LogTimeLayout = "20060102-150405"
	CompressedLog = ".gz"
	UnfinishedLog = ".tmp"
)

// RotatedLog takes the name of a file that a log was rotated to apart; ok is false for any other
// name. suffix is "", CompressedLog or UnfinishedLog.
func RotatedLog(log, name string) (stamp, suffix string, ok bool) {
	rest, ok := strings.CutPrefix(name, log+".")
	if !ok || len(rest) < len(LogTimeLayout) {
		return "", "", false
	}
	stamp, suffix = rest[:len(LogTimeLayout)], rest[len(LogTimeLayout):]
	if suffix != "" && suffix != CompressedLog && suffix != UnfinishedLog {
		return "", "", false
	}
	_, err := time.Parse(LogTimeLayout, stamp)
	return stamp, suffix, err == nil
}
