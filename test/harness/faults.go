package harness

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Call is one call of the agent, as a request of HTTP. That is what it is to Docker and
// the API server, and with gRPC to a CSI driver (POST /csi.v1.Node/NodeStageVolume); that
// of a plug-in is made one by the program in its place (ADD /bridge, RUN /our-login).
type Call struct {
	Method string
	Path   string // of Docker without the API version, e.g. /containers/create
	Query  string // unescaped; to a CNI plug-in its CNI_ARGS, to a CSI driver or credential plug-in the message
	At     time.Time
}

// Changes reports whether the call may change something.
func (c Call) Changes() bool {
	if service, name, ok := strings.Cut(strings.TrimPrefix(c.Path, "/"), "/"); ok && strings.HasPrefix(service, "csi.v1.") {
		return !strings.HasPrefix(name, "NodeGet") && service == "csi.v1.Node"
	} else if ok && strings.HasPrefix(service, "pluginregistration.") {
		return false
	}
	return !slices.Contains([]string{http.MethodGet, http.MethodHead, "CHECK", "STATUS", "VERSION", "RUN"}, c.Method)
}

// String returns e.g. "POST /containers/create".
func (c Call) String() string { return c.Method + " " + c.Path }

// Path matches calls whose method is one of those given (space separated, "" for
// any) and whose path contains the text.
func Path(methods, contains string) func(Call) bool {
	return func(c Call) bool {
		return (methods == "" || slices.Contains(strings.Fields(methods), c.Method)) && strings.Contains(c.Path, contains)
	}
}

// About matches of the calls that match accepts those that name something in the query:
// a pod at a CNI plug-in, a volume at a CSI driver, an image at a credential plug-in.
func About(name string, match func(Call) bool) func(Call) bool {
	return func(c Call) bool { return strings.Contains(c.Query, name) && match(c) }
}

// First matches the first call only of those that match accepts.
func First(match func(Call) bool) func(Call) bool {
	seen := false
	return func(c Call) bool {
		if seen || !match(c) {
			return false
		}
		seen = true
		return true
	}
}

// Fault is what happens to a call instead of plain forwarding; next forwards it. All
// faults are for all proxies.
type Fault func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc)

// Fail answers with an error in the form of what was called; the status is HTTP's, or
// for a CSI driver gRPC's code. A plug-in exits with 1.
func Fail(status int, message string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		if isGRPC(r) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", strconv.Itoa(status))
			w.Header().Set("Grpc-Message", message)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		text := strconv.Quote(message)
		// Docker reads message, CNI code and msg, and the API server's is a Status.
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"`+reasons[status]+`","code":`+strconv.Itoa(status)+
			`,"message":`+text+`,"msg":`+text+`}`)
	}
}

// reasons are those of the API server that a client decides by.
var reasons = map[int]string{
	http.StatusConflict: "Conflict", http.StatusGone: "Expired", http.StatusTooManyRequests: "TooManyRequests", http.StatusNotFound: "NotFound",
	http.StatusInternalServerError: "InternalError", http.StatusServiceUnavailable: "ServiceUnavailable",
}

func isGRPC(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// Busy answers as an API server does that wants to be left alone for some seconds.
func Busy(seconds int) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		Fail(http.StatusTooManyRequests, "too many requests, please try again later")(w, r, next)
	}
}

// Answer answers with success and this text; nothing is called. An empty text is for a
// CSI driver an empty message: done, though it was not.
func Answer(text string) Fault { return answer(func(w io.Writer) { _, _ = io.WriteString(w, text) }) }

// Huge answers with success and a text of that many bytes, which is no answer.
func Huge(bytes int) Fault {
	return answer(func(w io.Writer) {
		part := strings.Repeat("x", 64<<10)
		for left := bytes; left > 0; left -= len(part) {
			if _, err := io.WriteString(w, part); err != nil {
				return
			}
		}
	})
}

func answer(write func(io.Writer)) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		if isGRPC(r) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			text := &strings.Builder{}
			write(text)
			n := text.Len()
			_, _ = w.Write([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
			_, _ = io.WriteString(w, text.String())
			w.Header().Set("Grpc-Status", "0")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		write(w)
	}
}

// Hang gives no answer until release is closed or the caller gives up.
func Hang(release <-chan struct{}) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		select {
		case <-release:
			next(w, r)
		case <-r.Context().Done():
		}
	}
}

// Delay forwards after d.
func Delay(d time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		select {
		case <-time.After(d):
			next(w, r)
		case <-r.Context().Done():
		}
	}
}

// Silence lets the answer begin, and then nothing of it comes until release is closed:
// a watch that tells nothing any more.
func Silence(release <-chan struct{}) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		next(&silent{w, r, release}, r)
	}
}

type silent struct {
	http.ResponseWriter
	r       *http.Request
	release <-chan struct{}
}

// Write implements io.Writer.
func (s *silent) Write(p []byte) (int, error) {
	_ = http.NewResponseController(s.ResponseWriter).Flush() // the answer has begun
	select {
	case <-s.release:
		return s.ResponseWriter.Write(p)
	case <-s.r.Context().Done():
		return 0, s.r.Context().Err()
	}
}

// Unwrap is for http.ResponseController.
func (s *silent) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// CutBefore calls do and breaks the connection, or ends the plug-in; what was called
// never sees the call.
func CutBefore(do func()) Fault {
	return func(_ http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		do()
		cut(r)
	}
}

// CutAfter lets the call be done, calls do, and breaks the connection, or ends the
// plug-in: the caller never learns the result.
func CutAfter(do func()) Fault {
	return func(_ http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		// The caller may die in do; the call is done by then.
		next(httptest.NewRecorder(), r)
		do()
		cut(r)
	}
}

// cut breaks the connection that the request came by, with all that runs on it.
func cut(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		_ = c.Close()
	}
	panic(http.ErrAbortHandler)
}

type connKey struct{}
