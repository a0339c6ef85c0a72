package criconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Labels that every sandbox and container carries: a pod's identity on the
// node, found again by listing after a crash.
const (
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"
)

// Annotations of a container that are read back when its pod's spec is gone.
const (
	AnnotationHash                     = "io.kubernetes.container.hash"
	AnnotationRestartCount             = "io.kubernetes.container.restartCount"
	AnnotationTerminationMessagePath   = "io.kubernetes.container.terminationMessagePath"
	AnnotationTerminationMessagePolicy = "io.kubernetes.container.terminationMessagePolicy"
	AnnotationPreStopHandler           = "io.kubernetes.container.preStopHandler"
	AnnotationPorts                    = "io.kubernetes.container.ports"
	AnnotationTerminationGracePeriod   = "io.kubernetes.pod.terminationGracePeriod"
	AnnotationDeletionGracePeriod      = "io.kubernetes.pod.deletionGracePeriod"
)

// AnnotationStartTime, on a sandbox, is the pod's status.startTime in RFC 3339: a
// new agent counts on from there.
const AnnotationStartTime = "io.mini-kubelet.pod-start-time"

// Identity is what the labels say a sandbox or container belongs to.
type Identity struct {
	PodName   string
	Namespace string
	UID       types.UID
	Container string // "" for a sandbox
}

// ReadLabels returns whom a sandbox or container belongs to; false when it is not
// one of a pod, or a name in it is no name of a file: they become parts of paths.
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

// Recorded is what a container's annotations tell of the spec it was made from.
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
	read(AnnotationHash, func(s string) (err error) {
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

// sandboxLabels are the pod's own labels under those of its identity, which
// no manifest can override.
func sandboxLabels(pod *v1.Pod) map[string]string {
	labels := make(map[string]string, len(pod.Labels)+3)
	maps.Copy(labels, pod.Labels)
	labels[LabelPodName] = pod.Name
	labels[LabelPodNamespace] = pod.Namespace
	labels[LabelPodUID] = string(pod.UID)
	return labels
}

// sandboxAnnotations are the pod's own and when it started, as far as that is known,
// whatever the pod itself says of it.
func sandboxAnnotations(pod *v1.Pod) map[string]string {
	a := maps.Clone(pod.Annotations)
	delete(a, AnnotationStartTime)
	if t := pod.Status.StartTime; t != nil {
		if a == nil {
			a = map[string]string{}
		}
		a[AnnotationStartTime] = t.UTC().Format(time.RFC3339)
	}
	return a
}

func containerLabels(pod *v1.Pod, c *v1.Container) map[string]string {
	return map[string]string{
		LabelPodName:       pod.Name,
		LabelPodNamespace:  pod.Namespace,
		LabelPodUID:        string(pod.UID),
		LabelContainerName: c.Name,
	}
}

func containerAnnotations(pod *v1.Pod, c *v1.Container, restartCount uint32) (map[string]string, error) {
	a := map[string]string{
		AnnotationHash:                     strconv.FormatUint(HashContainer(c), 16),
		AnnotationRestartCount:             strconv.FormatUint(uint64(restartCount), 10),
		AnnotationTerminationMessagePath:   c.TerminationMessagePath,
		AnnotationTerminationMessagePolicy: string(c.TerminationMessagePolicy),
	}
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		a[AnnotationDeletionGracePeriod] = strconv.FormatInt(*g, 10)
	}
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		a[AnnotationTerminationGracePeriod] = strconv.FormatInt(*g, 10)
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		text, err := json.Marshal(c.Lifecycle.PreStop)
		if err != nil {
			return nil, containerErrorf("record preStop hook: %w", err)
		}
		a[AnnotationPreStopHandler] = string(text)
	}
	if len(c.Ports) > 0 {
		text, err := json.Marshal(c.Ports)
		if err != nil {
			return nil, containerErrorf("record ports: %w", err)
		}
		a[AnnotationPorts] = string(text)
	}
	return a, nil
}

// DefaultPodLogsRoot is where the logs of all pods lie.
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
