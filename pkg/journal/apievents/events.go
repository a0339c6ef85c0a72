// Package events shows what the journal records as Events of the API server: of
// equal ones only the count grows, similar ones are joined, and one pod cannot
// flood the others (client-go's correlator). It is a sink of the journal and never
// holds up who records; while the API server is away the newest are tried again
// for a while, and then lost, as by the kubelet.
package apievents

import (
	"context"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// component is whom events are from, as clients look for it.
const component = "kubelet"

// Sink is a journal.Sink that writes to the API server. Safe for concurrent use.
type Sink struct {
	node        string
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	watch       watch.Interface
}

// NewSink returns a Sink of a node. client bounds the rate of writing. What is
// recorded before Run is written too; Run must be called to end it.
func NewSink(client kubernetes.Interface, node string) *Sink {
	b := record.NewBroadcaster()
	return &Sink{
		node: node, broadcaster: b,
		watch:    b.StartRecordingToSink(&typedv1.EventSinkImpl{Interface: client.CoreV1().Events("")}),
		recorder: b.NewRecorder(scheme.Scheme, v1.EventSource{Component: component, Host: node}),
	}
}

// Run writes what is recorded until ctx ends.
func (s *Sink) Run(ctx context.Context) error {
	<-ctx.Done()
	s.watch.Stop()
	s.broadcaster.Shutdown()
	return nil
}

// Record implements journal.Sink.
func (s *Sink) Record(e journal.Entry) {
	s.recorder.Event(reference(e.Pod, e.Container), e.Type, e.Reason, e.Message)
}

// Node records something about the node itself.
func (s *Sink) Node(eventType, reason, message string) {
	// The kubelet's reference: the node's name in place of its UID.
	s.recorder.Event(&v1.ObjectReference{Kind: "Node", Name: s.node, UID: types.UID(s.node)}, eventType, reason, message)
}

// reference is what an event is about. A static pod is known to the cluster by its
// hash: kubectl looks for a mirror pod's events under that.
func reference(pod *v1.Pod, container string) *v1.ObjectReference {
	ref := &v1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		ResourceVersion: pod.ResourceVersion, FieldPath: fieldPath(pod, container),
	}
	if hash := pod.Annotations[pods.AnnotationConfigHash]; pods.IsStatic(pod) && hash != "" {
		ref.UID = types.UID(hash)
	}
	return ref
}

// fieldPath names a container of the pod, "" when that has none of the name.
func fieldPath(pod *v1.Pod, container string) string {
	if container == "" {
		return ""
	}
	c, kind := pods.Container(pod, container)
	switch {
	case c == nil:
		return ""
	case kind == pods.RegularContainer:
		return "spec.containers{" + container + "}"
	case kind == pods.EphemeralContainer:
		return "spec.ephemeralContainers{" + container + "}"
	}
	return "spec.initContainers{" + container + "}"
}
