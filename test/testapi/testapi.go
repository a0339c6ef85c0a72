// Package testapi is an API server in memory for tests: pods, nodes, events, leases
// and certificate requests, with resource versions, UID preconditions, strategic merge patches and
// watches, all over a real client. It opens no socket, so that it works inside a
// synctest bubble (but it is an http.Handler too), and it does not validate or admit
// anything.
package testapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Request is one that the server has got.
type Request struct {
	Method, Path, Query string // e.g. PATCH, /api/v1/namespaces/default/pods/web/status
	Body                string
}

// Server is the API server. Safe for concurrent use.
type Server struct {
	// Before is called with each request before it is served and may block. What it
	// returns, unless nil, is the answer. Set it before the first request.
	Before func(*http.Request) *metav1.Status

	mu       sync.Mutex
	version  int
	objects  map[key]object
	watchers map[*watcher]bool
	requests []Request
}

type key struct{ resource, namespace, name string }

// object is one that the server holds.
type object interface {
	metav1.Object
	runtime.Object
}

// kinds are the resources that there are.
var kinds = map[string]struct {
	apiVersion, kind string
	make             func() object
}{
	"pods":   {"v1", "Pod", func() object { return &v1.Pod{} }},
	"nodes":  {"v1", "Node", func() object { return &v1.Node{} }},
	"events": {"v1", "Event", func() object { return &v1.Event{} }},
	"leases": {"coordination.k8s.io/v1", "Lease", func() object { return &coordinationv1.Lease{} }},

	"certificatesigningrequests": {"certificates.k8s.io/v1", "CertificateSigningRequest", func() object { return &certificatesv1.CertificateSigningRequest{} }},
}

// New returns a Server that holds objs.
func New(objs ...metav1.Object) *Server {
	s := &Server{objects: map[key]object{}, watchers: map[*watcher]bool{}}
	for _, o := range objs {
		s.Put(o)
	}
	return s
}

// Client returns a client of the server that speaks JSON and has no limits.
func (s *Server) Client(t testing.TB) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(&rest.Config{
		Host: "http://api.test", Transport: s, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Put makes or replaces an object as somebody else would, and returns it as the
// server now has it. It gets a UID if it has none.
func (s *Server) Put(o metav1.Object) metav1.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	obj := o.(object).DeepCopyObject().(object)
	k := key{resourceOf(obj), obj.GetNamespace(), obj.GetName()}
	_, was := s.objects[k]
	return s.store(k, obj, was)
}

// Drop removes an object as somebody else would.
func (s *Server) Drop(o metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(key{resourceOf(o), o.GetNamespace(), o.GetName()})
}

// Pod returns the pod of that name as the server has it, nil when it has none.
func (s *Server) Pod(namespace, name string) *v1.Pod {
	p, _ := s.get(key{"pods", namespace, name}).(*v1.Pod)
	return p
}

// Node returns the node of that name as the server has it, nil when it has none.
func (s *Server) Node(name string) *v1.Node {
	n, _ := s.get(key{"nodes", "", name}).(*v1.Node)
	return n
}

// Events returns the events that were written, by name.
func (s *Server) Events() []*v1.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*v1.Event
	for _, o := range s.list("events", "") {
		out = append(out, o.(*v1.Event))
	}
	return out
}

// CertificateRequests returns the certificate signing requests, by name.
func (s *Server) CertificateRequests() []*certificatesv1.CertificateSigningRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*certificatesv1.CertificateSigningRequest
	for _, o := range s.list("certificatesigningrequests", "") {
		out = append(out, o.(*certificatesv1.CertificateSigningRequest).DeepCopy())
	}
	return out
}

// Requests returns what the server was asked by method and a part of the path, in order.
func (s *Server) Requests(method, path string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Request
	for _, r := range s.requests {
		if r.Method == method && strings.Contains(r.Path, path) {
			out = append(out, r)
		}
	}
	return out
}

func (s *Server) get(k key) object {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.objects[k]; ok {
		return o.DeepCopyObject().(object)
	}
	return nil
}

func resourceOf(o metav1.Object) string {
	for name, k := range kinds {
		if fmt.Sprintf("%T", k.make()) == fmt.Sprintf("%T", o) {
			return name
		}
	}
	panic(fmt.Sprintf("testapi: no resource for a %T", o))
}

// store keeps obj, which is then the server's own, and tells the watchers.
func (s *Server) store(k key, obj object, was bool) object {
	s.version++
	obj.SetResourceVersion(strconv.Itoa(s.version))
	if obj.GetUID() == "" {
		obj.SetUID(types.UID("uid-" + strconv.Itoa(s.version)))
	}
	s.objects[k] = obj
	kind := "ADDED"
	if was {
		kind = "MODIFIED"
	}
	s.tell(k.resource, kind, obj)
	return obj.DeepCopyObject().(object)
}

func (s *Server) drop(k key) {
	if o, ok := s.objects[k]; ok {
		delete(s.objects, k)
		s.version++
		o.SetResourceVersion(strconv.Itoa(s.version))
		s.tell(k.resource, "DELETED", o)
	}
}

func (s *Server) list(resource, namespace string) []object {
	var out []object
	for k, o := range s.objects {
		if k.resource == resource && (namespace == "" || k.namespace == namespace) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b object) int {
		return strings.Compare(a.GetNamespace()+"/"+a.GetName(), b.GetNamespace()+"/"+b.GetName())
	})
	return out
}

// RoundTrip implements http.RoundTripper.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
	}
	s.mu.Lock()
	s.requests = append(s.requests, Request{r.Method, r.URL.Path, r.URL.RawQuery, string(body)})
	s.mu.Unlock()
	if s.Before != nil {
		if st := s.Before(r); st != nil {
			return answer(r, int(st.Code), st)
		}
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	k, ok := parse(r.URL.Path)
	if !ok {
		return answer(r, http.StatusNotFound, Failure(http.StatusNotFound, "no such path"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodGet && k.name == "" {
		if r.URL.Query().Get("watch") != "" {
			return s.watch(r, k)
		}
		return answer(r, http.StatusOK, s.listed(k))
	}
	code, result := s.serve(r, k, body)
	return answer(r, code, result)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resp, err := s.RoundTrip(r)
	if err != nil {
		return // the client has gone
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	w.WriteHeader(resp.StatusCode)
	part := make([]byte, 4096)
	for {
		n, err := resp.Body.Read(part)
		if _, wrong := w.Write(part[:n]); wrong != nil || err != nil {
			return
		}
		w.(http.Flusher).Flush()
	}
}

// Failure is an answer that says no.
func Failure(code int32, message string) *metav1.Status {
	reasons := map[int32]metav1.StatusReason{
		403: metav1.StatusReasonForbidden, 404: metav1.StatusReasonNotFound, 409: metav1.StatusReasonConflict,
		500: metav1.StatusReasonInternalError, 503: metav1.StatusReasonServiceUnavailable,
	}
	return &metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reasons[code], Message: message}
}

func refuse(err *apierrors.StatusError) (int, any) { return int(err.ErrStatus.Code), &err.ErrStatus }

// parse reads a path such as /api/v1/namespaces/default/pods/web/status.
func parse(path string) (key, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return key{}, false
	}
	var k key
	if len(parts) > 2 && parts[0] == "namespaces" {
		k.namespace, parts = parts[1], parts[2:]
	}
	k.resource = parts[0]
	if len(parts) > 1 {
		k.name = parts[1]
	}
	_, ok := kinds[k.resource]
	return k, ok
}

func encode(v any) []byte {
	if o, ok := v.(object); ok {
		o = o.DeepCopyObject().(object)
		kind := kinds[resourceOf(o)]
		o.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(kind.apiVersion, kind.kind))
		v = o
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

func answer(r *http.Request, code int, v any) (*http.Response, error) {
	if st, ok := v.(*metav1.Status); ok {
		st = st.DeepCopy()
		st.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		v = st
	}
	return response(r, code, io.NopCloser(bytes.NewReader(encode(v)))), nil
}

func response(r *http.Request, code int, body io.ReadCloser) *http.Response {
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {runtime.ContentTypeJSON}}, Body: body,
	}
}
