package pods

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Labels that every sandbox and container carries: a pod's identity on the node,
// which a list finds again after a crash.
const (
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"
)

// Annotations of a container that are read back when its pod's spec is gone.
const (
	AnnotationContainerHash            = "io.kubernetes.container.hash"
	AnnotationRestartCount             = "io.kubernetes.container.restartCount"
	AnnotationTerminationMessagePath   = "io.kubernetes.container.terminationMessagePath"
	AnnotationTerminationMessagePolicy = "io.kubernetes.container.terminationMessagePolicy"
	AnnotationPreStopHandler           = "io.kubernetes.container.preStopHandler"
	AnnotationPorts                    = "io.kubernetes.container.ports"
	AnnotationTerminationGracePeriod   = "io.kubernetes.pod.terminationGracePeriod"
	AnnotationDeletionGracePeriod      = "io.kubernetes.pod.deletionGracePeriod"
)

// AnnotationStartTime, on a sandbox, is the pod's status.startTime in RFC 3339: a
// new agent continues with it.
const AnnotationStartTime = "io.mini-kubelet.pod-start-time"

// Identity is what a sandbox or container belongs to, according to its labels.
type Identity struct {
	PodName   string
	Namespace string
	UID       types.UID
	Container string // "" for a sandbox
}

// ReadLabels returns what a sandbox or container belongs to; false when it belongs
// to no pod, or when a name is not a valid file name, since names become parts of
// paths.
func ReadLabels(labels map[string]string) (Identity, bool) {
	id := Identity{
		PodName:   labels[LabelPodName],
		Namespace: labels[LabelPodNamespace],
		UID:       types.UID(labels[LabelPodUID]),
		Container: labels[LabelContainerName],
	}
	for _, name := range []string{id.PodName, id.Namespace, string(id.UID)} {
		if !isFileName(name) {
			return Identity{}, false
		}
	}
	return id, id.Container == "" || isFileName(id.Container)
}

func isFileName(name string) bool {
	return filepath.IsLocal(name) && name != "." && !strings.ContainsAny(name, "/\x00")
}

// Recorded is what a container's annotations say about the spec it was made from.
type Recorded struct {
	Hash                     uint64
	RestartCount             int32
	TerminationMessagePath   string
	TerminationMessagePolicy v1.TerminationMessagePolicy
	PreStop                  *v1.LifecycleHandler
	Ports                    []v1.ContainerPort
	TerminationGracePeriod   *int64 // seconds, the pod's
	DeletionGracePeriod      *int64 // seconds, nil unless the pod was already being deleted
}

// ReadAnnotations reads a container's annotations back. What cannot be read is
// left zero and named in the error; the rest is usable.
func ReadAnnotations(a map[string]string) (Recorded, error) {
	r := Recorded{
		TerminationMessagePath:   a[AnnotationTerminationMessagePath],
		TerminationMessagePolicy: v1.TerminationMessagePolicy(a[AnnotationTerminationMessagePolicy]),
	}
	var errs []error
	read := func(key string, parse func(string) error) {
		s, ok := a[key]
		if !ok {
			return
		}
		if err := parse(s); err != nil {
			errs = append(errs, fmt.Errorf("annotation %s: %w", key, err))
		}
	}
	read(AnnotationContainerHash, func(s string) (err error) {
		r.Hash, err = strconv.ParseUint(s, 16, 64)
		return err
	})
	read(AnnotationRestartCount, func(s string) error {
		n, err := strconv.ParseInt(s, 10, 32)
		if err == nil && n < 0 {
			err = fmt.Errorf("%d is negative", n)
		}
		if err == nil {
			r.RestartCount = int32(n)
		}
		return err
	})
	read(AnnotationPreStopHandler, func(s string) error {
		h := &v1.LifecycleHandler{}
		err := json.Unmarshal([]byte(s), h)
		if err == nil {
			r.PreStop = h
		}
		return err
	})
	read(AnnotationPorts, func(s string) error {
		var ports []v1.ContainerPort
		err := json.Unmarshal([]byte(s), &ports)
		if err == nil {
			r.Ports = ports
		}
		return err
	})
	seconds := func(into **int64) func(string) error {
		return func(s string) error {
			n, err := strconv.ParseInt(s, 10, 64)
			if err == nil {
				*into = &n
			}
			return err
		}
	}
	read(AnnotationTerminationGracePeriod, seconds(&r.TerminationGracePeriod))
	read(AnnotationDeletionGracePeriod, seconds(&r.DeletionGracePeriod))
	return r, errors.Join(errs...)
}
