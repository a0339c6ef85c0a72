package pods

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	certificates "k8s.io/api/certificates/v1beta1"
	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// place is where cases run. Its methods may be called concurrently, each namespace
// by one case.
type place interface {
	agent() *harness.Agent
	// namespace returns a new namespace for a case, and the function that removes
	// it.
	namespace(ctx context.Context, name string) (namespace string, remove func(), err error)
	create(ctx context.Context, namespace string, objects []map[string]any) error
	// remove removes the pods of a case, and does not wait for it.
	remove(ctx context.Context, namespace string) error
	// pod returns the pod with that name in the manifest; nil: there is none.
	pod(ctx context.Context, namespace, name string) (*v1.Pod, error)
	events(ctx context.Context, pod *v1.Pod) ([]event, error)
}

type event struct{ reason, message string }

// standalone is a node that reads its pods from manifests.
type standalone struct{ a *harness.Agent }

func (s standalone) agent() *harness.Agent { return s.a }

func (s standalone) namespace(_ context.Context, name string) (string, func(), error) {
	namespace := "t-" + name
	return namespace, func() { _ = s.remove(context.Background(), namespace) }, nil
}

func (s standalone) file(namespace string) string {
	return filepath.Join(s.a.Manifests, namespace+".yaml")
}

func (s standalone) create(_ context.Context, namespace string, objects []map[string]any) error {
	for _, o := range objects {
		if o["kind"] != "PersistentVolume" {
			o["metadata"].(map[string]any)["namespace"] = namespace
		}
	}
	text, err := join(objects)
	if err != nil {
		return err
	}
	hidden := filepath.Join(s.a.Manifests, "."+namespace)
	return errors.Join(os.WriteFile(hidden, []byte(text), 0o644), os.Rename(hidden, s.file(namespace)))
}

func (s standalone) remove(_ context.Context, namespace string) error {
	err := os.Remove(s.file(namespace))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (s standalone) pod(_ context.Context, namespace, name string) (*v1.Pod, error) {
	list, err := s.a.Pods()
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		if p := &list.Items[i]; p.Namespace == namespace && p.Name == s.a.Name(name) {
			return p, nil
		}
	}
	return nil, nil
}

// eventLine matches a pod's event in the agent's log: the pod's UID, the event's
// reason and message.
var eventLine = regexp.MustCompile(`"Pod event" .*podUID="([^"]*)" reason="([^"]*)" message=(?:"((?:[^"\\]|\\.)*)"|<\n((?:\t.*\n)*) >)`)

func (s standalone) events(_ context.Context, pod *v1.Pod) ([]event, error) {
	var all []event
	for _, m := range eventLine.FindAllStringSubmatch(s.a.Log(), -1) {
		if m[1] != string(pod.UID) {
			continue
		}
		message := strings.ReplaceAll(m[4], "\t", "")
		if message == "" {
			var err error
			if message, err = strconv.Unquote(`"` + m[3] + `"`); err != nil {
				return nil, fmt.Errorf("read an event from the log: %w: %s", err, m[0])
			}
		}
		all = append(all, event{m[2], message})
	}
	return all, nil
}

// member is a node of a cluster.
type member struct{ n *harness.Node }

func (m member) agent() *harness.Agent { return m.n.Agent }

func (m member) namespace(ctx context.Context, name string) (string, func(), error) {
	b := make([]byte, 3)
	_, _ = rand.Read(b)
	namespace := "t-" + name + "-" + hex.EncodeToString(b)
	client := m.n.Cluster.Client.CoreV1()
	if _, err := client.Namespaces().Create(ctx, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		return "", nil, err
	}
	remove := func() {
		ctx, zero := context.Background(), int64(0)
		_ = client.Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &zero}, metav1.ListOptions{})
		_ = client.Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
		removeForAll(m.n.Cluster.Client, namespace)
	}
	return namespace, remove, within(ctx, func() error { return m.n.Cluster.ReadyForPods(ctx, namespace) })
}

// create makes what pods use before the pods, which are bound to the node without
// the scheduler.
func (m member) create(ctx context.Context, namespace string, objects []map[string]any) error {
	client := m.n.Cluster.Client.CoreV1()
	var pods []*v1.Pod
	for _, o := range objects {
		var err error
		switch kind := o["kind"]; kind {
		case "Pod":
			var p *v1.Pod
			p, err = as[v1.Pod](o)
			pods = append(pods, p)
		case "ConfigMap":
			var c *v1.ConfigMap
			if c, err = as[v1.ConfigMap](o); err == nil {
				_, err = client.ConfigMaps(namespace).Create(ctx, c, metav1.CreateOptions{})
			}
		case "Secret":
			var s *v1.Secret
			if s, err = as[v1.Secret](o); err == nil {
				_, err = client.Secrets(namespace).Create(ctx, s, metav1.CreateOptions{})
			}
		case "Service":
			var s *v1.Service
			if s, err = as[v1.Service](o); err == nil {
				_, err = client.Services(namespace).Create(ctx, s, metav1.CreateOptions{})
			}
		case "PersistentVolumeClaim":
			var c *v1.PersistentVolumeClaim
			if c, err = as[v1.PersistentVolumeClaim](o); err == nil {
				_, err = client.PersistentVolumeClaims(namespace).Create(ctx, c, metav1.CreateOptions{})
			}
		default:
			err = createForAll(ctx, m.n.Cluster.Client, namespace, o)
		}
		if err != nil {
			return err
		}
	}
	for _, p := range pods {
		p.Spec.NodeName = m.n.Node()
		// Ephemeral containers are added to an existing pod.
		later := p.Spec.EphemeralContainers
		p.Spec.EphemeralContainers = nil
		made, err := client.Pods(namespace).Create(ctx, p, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if len(later) > 0 {
			if err := m.debug(ctx, made, later); err != nil {
				return err
			}
		}
	}
	return nil
}

// debug adds ephemeral containers to a pod once it runs.
func (m member) debug(ctx context.Context, pod *v1.Pod, containers []v1.EphemeralContainer) error {
	client := m.n.Cluster.Client.CoreV1().Pods(pod.Namespace)
	return within(ctx, func() error {
		now, err := client.Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if now.Status.Phase != v1.PodRunning {
			return fmt.Errorf("pod %s is %s", pod.Name, now.Status.Phase)
		}
		now.Spec.EphemeralContainers = containers
		_, err = client.UpdateEphemeralContainers(ctx, pod.Name, now, metav1.UpdateOptions{})
		return err
	})
}

// ofCase is the label of objects without a namespace: the case's.
const ofCase = "mini-kubelet.test/case"

// createForAll makes an object that has no namespace; removeForAll removes all of a
// case's.
func createForAll(ctx context.Context, client kubernetes.Interface, namespace string, o map[string]any) error {
	meta := o["metadata"].(map[string]any)
	labels, _ := meta["labels"].(map[string]any)
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]any{}
	}
	labels[ofCase] = namespace
	meta["labels"] = labels
	switch kind := o["kind"]; kind {
	case "RuntimeClass":
		c, err := as[nodev1.RuntimeClass](o)
		if err == nil {
			_, err = client.NodeV1().RuntimeClasses().Create(ctx, c, metav1.CreateOptions{})
		}
		return err
	case "PersistentVolume":
		v, err := as[v1.PersistentVolume](o)
		if err == nil {
			_, err = client.CoreV1().PersistentVolumes().Create(ctx, v, metav1.CreateOptions{})
		}
		return err
	case "ClusterTrustBundle":
		b, err := as[certificates.ClusterTrustBundle](o)
		if err == nil {
			_, err = client.CertificatesV1beta1().ClusterTrustBundles().Create(ctx, b, metav1.CreateOptions{})
		}
		return err
	default:
		return fmt.Errorf("teach createForAll about %v", kind)
	}
}

func removeForAll(client kubernetes.Interface, namespace string) {
	ctx, list := context.Background(), metav1.ListOptions{LabelSelector: ofCase + "=" + namespace}
	_ = client.CoreV1().PersistentVolumes().DeleteCollection(ctx, metav1.DeleteOptions{}, list)
	_ = client.NodeV1().RuntimeClasses().DeleteCollection(ctx, metav1.DeleteOptions{}, list)
	_ = client.CertificatesV1beta1().ClusterTrustBundles().DeleteCollection(ctx, metav1.DeleteOptions{}, list)
}

// as reads an object; all its fields must be known.
func as[T any](object map[string]any) (*T, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	into := new(T)
	return into, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(fields, into, true)
}

func (m member) remove(ctx context.Context, namespace string) error {
	return m.n.Cluster.Client.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
}

func (m member) pod(ctx context.Context, namespace, name string) (*v1.Pod, error) {
	p, err := m.n.Cluster.Client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return p, err
}

func (m member) events(ctx context.Context, pod *v1.Pod) ([]event, error) {
	list, err := m.n.Cluster.Client.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod.Name})
	if err != nil {
		return nil, err
	}
	var all []event
	for _, e := range list.Items {
		all = append(all, event{e.Reason, e.Message})
	}
	return all, nil
}
