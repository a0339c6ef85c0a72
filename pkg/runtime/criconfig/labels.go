package criconfig

import (
	"encoding/json"
	"maps"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// sandboxLabels returns the pod's own labels, overlaid with those of its identity,
// which no manifest can override.
func sandboxLabels(pod *v1.Pod) map[string]string {
	labels := make(map[string]string, len(pod.Labels)+3)
	maps.Copy(labels, pod.Labels)
	labels[pods.LabelPodName] = pod.Name
	labels[pods.LabelPodNamespace] = pod.Namespace
	labels[pods.LabelPodUID] = string(pod.UID)
	return labels
}

// sandboxAnnotations returns the pod's own annotations and its start time, if known,
// which no manifest can override.
func sandboxAnnotations(pod *v1.Pod) map[string]string {
	a := maps.Clone(pod.Annotations)
	delete(a, pods.AnnotationStartTime)
	if t := pod.Status.StartTime; t != nil {
		if a == nil {
			a = map[string]string{}
		}
		a[pods.AnnotationStartTime] = t.UTC().Format(time.RFC3339)
	}
	return a
}

func containerLabels(pod *v1.Pod, c *v1.Container) map[string]string {
	return map[string]string{
		pods.LabelPodName:       pod.Name,
		pods.LabelPodNamespace:  pod.Namespace,
		pods.LabelPodUID:        string(pod.UID),
		pods.LabelContainerName: c.Name,
	}
}

func containerAnnotations(pod *v1.Pod, c *v1.Container, restartCount uint32) (map[string]string, error) {
	a := map[string]string{
		pods.AnnotationContainerHash:            strconv.FormatUint(HashContainer(c), 16),
		pods.AnnotationRestartCount:             strconv.FormatUint(uint64(restartCount), 10),
		pods.AnnotationTerminationMessagePath:   c.TerminationMessagePath,
		pods.AnnotationTerminationMessagePolicy: string(c.TerminationMessagePolicy),
	}
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		a[pods.AnnotationDeletionGracePeriod] = strconv.FormatInt(*g, 10)
	}
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		a[pods.AnnotationTerminationGracePeriod] = strconv.FormatInt(*g, 10)
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		text, err := json.Marshal(c.Lifecycle.PreStop)
		if err != nil {
			return nil, containerErrorf("record preStop hook: %w", err)
		}
		a[pods.AnnotationPreStopHandler] = string(text)
	}
	if len(c.Ports) > 0 {
		text, err := json.Marshal(c.Ports)
		if err != nil {
			return nil, containerErrorf("record ports: %w", err)
		}
		a[pods.AnnotationPorts] = string(text)
	}
	return a, nil
}
