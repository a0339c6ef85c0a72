package server

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
)

func (a *api) containerLogs(w http.ResponseWriter, r *http.Request) {
	o, err := logOptions(r.URL.Query())
	if err != nil {
		say(w, http.StatusBadRequest, `{"message": "Unable to decode query."}`)
		return
	}
	if err := validateLogOptions(o); err != nil {
		say(w, http.StatusUnprocessableEntity, fmt.Sprintf(`{"message": "Invalid request: %v."}`, err))
		return
	}
	o.Container = r.PathValue("container")
	pod, _ := podOf(r)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := &logWriter{w: w, flush: o.Follow}
	var stdout, stderr io.Writer = out, out
	switch *o.Stream {
	case v1.LogStreamStdout:
		stderr = nil
	case v1.LogStreamStderr:
		stdout = nil
	}
	err = a.Host.Logs(r.Context(), pod, o, stdout, stderr)
	switch {
	case err == nil:
	case r.Context().Err() != nil: // the client has gone
	case !out.begun:
		fail(w, r, err, http.StatusBadRequest)
	default:
		// Too late for an HTTP status. An answer that breaks off shows the client that the
		// log is incomplete.
		klog.V(2).InfoS("Log broke off", "path", r.URL.Path, "err", err, "client", r.RemoteAddr)
		panic(http.ErrAbortHandler)
	}
}

// logWriter sends a followed log line by line, and any other log as buffers fill.
type logWriter struct {
	w     http.ResponseWriter
	flush bool
	begun bool
}

func (l *logWriter) Write(p []byte) (int, error) {
	if len(p) == 0 && !l.flush {
		return 0, nil
	}
	l.begun = true
	n, err := l.w.Write(p)
	if err == nil && l.flush {
		err = http.NewResponseController(l.w).Flush()
	}
	return n, err
}

// logOptions reads v1.PodLogOptions from a query as the API's own decoding does, which
// only k8s.io/kubernetes has. "tail" is an old name for tailLines.
func logOptions(q url.Values) (*v1.PodLogOptions, error) {
	all := v1.LogStreamAll
	o := &v1.PodLogOptions{Stream: &all}
	if tail := q.Get("tail"); tail != "" {
		q["tailLines"] = []string{tail}
		if tail == "all" {
			delete(q, "tailLines")
		}
	}
	for _, b := range []struct {
		name string
		to   *bool
	}{{"follow", &o.Follow}, {"previous", &o.Previous}, {"timestamps", &o.Timestamps}} {
		if v, ok := q[b.name]; ok {
			if err := runtime.Convert_Slice_string_To_bool(&v, b.to, nil); err != nil {
				return nil, err
			}
		}
	}
	for _, n := range []struct {
		name string
		to   **int64
	}{{"tailLines", &o.TailLines}, {"sinceSeconds", &o.SinceSeconds}, {"limitBytes", &o.LimitBytes}} {
		if v, ok := q[n.name]; ok {
			if err := runtime.Convert_Slice_string_To_Pointer_int64(&v, n.to, nil); err != nil {
				return nil, err
			}
		}
	}
	if v, ok := q["sinceTime"]; ok {
		if err := metav1.Convert_Slice_string_To_Pointer_v1_Time(&v, &o.SinceTime, nil); err != nil {
			return nil, err
		}
	}
	if s := q.Get("stream"); s != "" {
		o.Stream = &s
	}
	return o, nil
}

// validateLogOptions applies the API's rules for v1.PodLogOptions.
func validateLogOptions(o *v1.PodLogOptions) error {
	switch s := *o.Stream; {
	case o.TailLines != nil && *o.TailLines < 0:
		return fmt.Errorf("tailLines must not be negative")
	case o.LimitBytes != nil && *o.LimitBytes < 1:
		return fmt.Errorf("limitBytes must be greater than 0")
	case o.SinceSeconds != nil && o.SinceTime != nil:
		return fmt.Errorf("at most one of sinceTime and sinceSeconds may be given")
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		return fmt.Errorf("sinceSeconds must be greater than 0")
	case s != v1.LogStreamAll && s != v1.LogStreamStdout && s != v1.LogStreamStderr:
		return fmt.Errorf("stream must be All, Stdout or Stderr")
	case s != v1.LogStreamAll && o.TailLines != nil:
		return fmt.Errorf("tailLines and one stream exclude each other")
	}
	return nil
}
