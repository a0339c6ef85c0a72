package testapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/scheme"
)

// serve answers what is neither a list nor a watch.
func (s *Server) serve(r *http.Request, k key, body []byte) (int, any) {
	res := schema.GroupResource{Resource: k.resource}
	if r.Method == http.MethodPost {
		obj := kinds[k.resource].make()
		if err := decode(body, obj); err != nil {
			return refuse(apierrors.NewBadRequest(err.Error()))
		}
		obj.SetNamespace(k.namespace)
		k.name = obj.GetName()
		if _, ok := s.objects[k]; ok {
			return refuse(apierrors.NewAlreadyExists(res, k.name))
		}
		return http.StatusCreated, s.store(k, obj, false)
	}
	have, ok := s.objects[k]
	if !ok {
		return refuse(apierrors.NewNotFound(res, k.name))
	}
	switch r.Method {
	case http.MethodPatch:
		return s.patch(k, have, body)
	case http.MethodPut:
		obj := kinds[k.resource].make()
		if err := decode(body, obj); err != nil {
			return refuse(apierrors.NewBadRequest(err.Error()))
		}
		return http.StatusOK, s.store(k, obj, true)
	case http.MethodDelete:
		return s.delete(k, have, body)
	}
	return http.StatusOK, have
}

// decode reads a body in JSON or protobuf.
func decode(body []byte, into runtime.Object) error {
	_, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, into)
	return err
}

func (s *Server) patch(k key, have object, body []byte) (int, any) {
	now := kinds[k.resource].make()
	text, err := strategicpatch.StrategicMergePatch(encode(have), body, now)
	if err == nil {
		err = json.Unmarshal(text, now)
	}
	if err != nil {
		return refuse(apierrors.NewBadRequest(err.Error()))
	}
	if now.GetUID() != have.GetUID() {
		// So the real one answers: the UID cannot be changed.
		path := field.NewPath("metadata", "uid")
		return refuse(apierrors.NewInvalid(schema.GroupKind{Kind: kinds[k.resource].kind}, k.name,
			field.ErrorList{field.Invalid(path, now.GetUID(), "field is immutable")}))
	}
	return http.StatusOK, s.store(k, now, true)
}

func (s *Server) delete(k key, have object, body []byte) (int, any) {
	var o metav1.DeleteOptions
	if len(body) > 0 {
		if err := decode(body, &o); err != nil {
			return refuse(apierrors.NewBadRequest(err.Error()))
		}
	}
	if p := o.Preconditions; p != nil && p.UID != nil && *p.UID != have.GetUID() {
		return refuse(apierrors.NewConflict(schema.GroupResource{Resource: k.resource}, k.name,
			fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s)", *p.UID, have.GetUID())))
	}
	if _, pod := have.(*v1.Pod); pod && (o.GracePeriodSeconds == nil || *o.GracePeriodSeconds > 0) {
		now, grace := metav1.Now(), int64(30)
		if o.GracePeriodSeconds != nil {
			grace = *o.GracePeriodSeconds
		}
		going := have.DeepCopyObject().(object)
		going.SetDeletionTimestamp(&now)
		going.SetDeletionGracePeriodSeconds(&grace)
		return http.StatusOK, s.store(k, going, true)
	}
	s.drop(k)
	return http.StatusOK, have
}

func (s *Server) listed(k key) any {
	kind := kinds[k.resource]
	items := []json.RawMessage{}
	for _, o := range s.list(k.resource, k.namespace) {
		items = append(items, encode(o))
	}
	return map[string]any{
		"apiVersion": kind.apiVersion, "kind": kind.kind + "List", "items": items,
		"metadata": map[string]string{"resourceVersion": strconv.Itoa(s.version)},
	}
}

// watcher is one watch. Its goroutine ends with the request's context.
type watcher struct {
	resource string
	events   chan []byte
	cut      chan struct{}
}

// CutWatches ends all watches, as the server's end or the network's does.
func (s *Server) CutWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		delete(s.watchers, w)
		close(w.cut)
	}
}

// backlog is how many events a watcher may be behind; more are lost, and the test
// that needs them fails.
const backlog = 1000

func (s *Server) watch(r *http.Request, k key) (*http.Response, error) {
	q := r.URL.Query()
	if v := q.Get("resourceVersion"); q.Get("sendInitialEvents") == "" && v != "" && v != "0" && v != strconv.Itoa(s.version) {
		// It keeps no history: who is behind lists anew.
		code, gone := refuse(apierrors.NewResourceExpired("too old resource version"))
		return answer(r, code, gone)
	}
	w := &watcher{resource: k.resource, events: make(chan []byte, backlog), cut: make(chan struct{})}
	if q.Get("sendInitialEvents") == "true" {
		for _, o := range s.list(k.resource, k.namespace) {
			w.send("ADDED", o)
		}
		end := kinds[k.resource].make()
		end.SetResourceVersion(strconv.Itoa(s.version))
		end.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		w.send("BOOKMARK", end)
	}
	s.watchers[w] = true
	out, in := io.Pipe()
	go func() {
		defer func() {
			in.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.watchers, w)
		}()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-w.cut:
				return
			case text := <-w.events:
				if _, err := in.Write(text); err != nil {
					return
				}
			}
		}
	}()
	return response(r, http.StatusOK, out), nil
}

func (s *Server) tell(resource, kind string, obj object) {
	for w := range s.watchers {
		if w.resource == resource {
			w.send(kind, obj)
		}
	}
}

func (w *watcher) send(kind string, obj object) {
	text, err := json.Marshal(map[string]any{"type": kind, "object": json.RawMessage(encode(obj))})
	if err != nil {
		panic(err)
	}
	select {
	case w.events <- append(text, '\n'):
	default:
	}
}
