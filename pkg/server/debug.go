package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/pprof"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// addDebug serves the node's own logs and the agent's profiles, if they are on.
func (a *api) addDebug(mux *http.ServeMux) {
	if a.LogsDir == "" {
		mux.Handle("/logs/", disabled("logs endpoint is disabled."))
	} else {
		files := http.StripPrefix("/logs/", http.FileServer(logFiles(a.LogsDir)))
		show := a.long.handler(files.ServeHTTP)
		query := a.long.handler(a.queryLogs)
		mux.HandleFunc("GET /logs/{$}", func(w http.ResponseWriter, r *http.Request) {
			if a.LogQueries && asksForLogs(r.URL.Query()) {
				query.ServeHTTP(w, r)
				return
			}
			show.ServeHTTP(w, r)
		})
		mux.Handle("GET /logs/", show)
	}
	if a.SetVerbosity == nil {
		mux.Handle("/debug/flags/v", disabled("flags endpoint is disabled."))
	} else {
		mux.HandleFunc("PUT /debug/flags/v", a.setVerbosity)
	}
	if !a.Profiling {
		mux.Handle("/debug/pprof/", disabled("profiling endpoint is disabled."))
		return
	}
	for path, h := range map[string]http.HandlerFunc{
		"": pprof.Index, "profile": pprof.Profile, "symbol": pprof.Symbol, "cmdline": pprof.Cmdline, "trace": pprof.Trace,
	} {
		mux.Handle("GET /debug/pprof/"+path, a.long.handler(h))
	}
}

// logFiles is the directory of the node's logs as /logs/ shows it. Containers may write below it: what
// a link has elsewhere, and what is neither file nor directory, is not found.
type logFiles string

func (l logFiles) Open(name string) (http.File, error) {
	f, err := safefile.OpenWithin(string(l), name)
	for _, why := range []error{safefile.ErrOutside, safefile.ErrLink, safefile.ErrNotRegular, fs.ErrNotExist, unix.ENOTDIR, unix.ELOOP} {
		if errors.Is(err, why) {
			// All in the same words, so that a link asks nothing of the rest of the node.
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
	}
	if err != nil {
		return nil, err // not f, whose nil would be no nil http.File
	}
	return f, nil
}

// maxLevel is how long the text of a log level may be.
const maxLevel = 16

// setVerbosity answers PUT /debug/flags/v, whose body is the level.
func (a *api) setVerbosity(w http.ResponseWriter, r *http.Request) {
	level, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLevel))
	if err != nil {
		http.Error(w, fmt.Sprintf("read the level: %v", err), http.StatusBadRequest)
		return
	}
	answer, err := a.SetVerbosity(string(level))
	if err != nil {
		http.Error(w, fmt.Sprintf("set the level: %v", err), http.StatusBadRequest)
		return
	}
	klog.InfoS("The log's verbosity was changed", "level", string(level), "client", r.RemoteAddr)
	fmt.Fprint(w, answer)
}
