// Package apievents shows what the journal records as Events of the API server:
// equal ones only raise a count, similar ones are joined, and one pod cannot crowd
// out the others (client-go's correlator). It is a sink of the journal and never
// blocks whoever records; while the API server is away the newest events are tried
// again for a while, and then lost, as with the kubelet.
package apievents

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// component is the source of events, as clients expect it.
const component = "kubelet"

// Sink is a journal.Sink that writes to the API server. Safe for concurrent use.
type Sink struct {
	client      kubernetes.Interface
	node        string
	nodeUID     func() types.UID
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	watch       watch.Interface
}

// NewSink returns a Sink for a node. nodeUID returns the UID of its object, "" while that
// is not known. client limits the rate of writing. What is recorded before Run is written
// too; Run must be called to end it.
func NewSink(client kubernetes.Interface, node string, nodeUID func() types.UID) *Sink {
	b := record.NewBroadcaster()
	return &Sink{
		client: client, node: node, nodeUID: nodeUID, broadcaster: b,
		watch:    b.StartRecordingToSink(&typedv1.EventSinkImpl{Interface: client.CoreV1().Events("")}),
		recorder: b.NewRecorder(scheme.Scheme, v1.EventSource{Component: component, Host: node}),
	}
}

// Run keeps the Sink writing until ctx ends, and then stops it.
func (s *Sink) Run(ctx context.Context) error {
	<-ctx.Done()
	s.watch.Stop()
	s.broadcaster.Shutdown()
	return nil
}

// Record implements journal.Sink.
func (s *Sink) Record(e journal.Entry) {
	s.recorder.AnnotatedEventf(journal.Reference(e.Pod, e.Container), e.Annotations, e.Type, e.Reason, "%s", e.Message)
}

// Claim records something about a persistent volume claim.
func (s *Sink) Claim(c *v1.PersistentVolumeClaim, eventType, reason, message string) {
	s.recorder.Event(journal.ClaimReference(c), eventType, reason, message)
}

// Volume records something about a persistent volume.
func (s *Sink) Volume(pv *v1.PersistentVolume, eventType, reason, message string) {
	s.recorder.Event(journal.VolumeReference(pv), eventType, reason, bounds.Cut(message, journal.MaxText))
}

// Node records something about the node itself.
func (s *Sink) Node(eventType, reason, message string) {
	s.recorder.Event(s.nodeReference(), eventType, reason, message)
}

func (s *Sink) nodeReference() *v1.ObjectReference {
	// As the kubelet does since 1.37. Before, it had the node's name in place of its UID,
	// and kubectl still looks for both.
	uid := s.nodeUID()
	if uid == "" {
		uid = types.UID(s.node)
	}
	return &v1.ObjectReference{Kind: "Node", Name: s.node, UID: uid}
}

// NodeNow is Node for an agent that is about to end: it returns once the API server has the event.
func (s *Sink) NodeNow(ctx context.Context, eventType, reason, message string) error {
	ref, now := s.nodeReference(), metav1.Now()
	_, err := s.client.CoreV1().Events(metav1.NamespaceDefault).Create(ctx, &v1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: fmt.Sprintf("%s.%x", s.node, now.UnixNano())},
		InvolvedObject: *ref, Type: eventType, Reason: reason, Message: bounds.Cut(message, journal.MaxText),
		Source: v1.EventSource{Component: component, Host: s.node}, FirstTimestamp: now, LastTimestamp: now, Count: 1,
		ReportingController: component, ReportingInstance: s.node,
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("record event %s of the node: %w", reason, err)
	}
	return nil
}
