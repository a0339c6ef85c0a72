package server

import (
	"net/http"
	"net/http/pprof"
)

// addDebug serves the node's own logs and the agent's profiles, if they are on.
func (a *api) addDebug(mux *http.ServeMux) {
	if a.LogsDir == "" {
		mux.Handle("/logs/", disabled("logs endpoint is disabled."))
	} else {
		files := http.StripPrefix("/logs/", http.FileServer(http.Dir(a.LogsDir)))
		mux.Handle("GET /logs/", a.long.handler(files.ServeHTTP))
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
