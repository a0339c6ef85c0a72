package server

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// forThisMachine refuses requests over a loopback address that were meant for some other
// machine by their Host header: a web page whose name its owner lets resolve to
// 127.0.0.1 could otherwise have a browser on this machine read what these ports show
// (DNS rebinding). Nobody can let an IP address, localhost or this node's name resolve to
// something else. Over other addresses any name may be this machine's.
func forThisMachine(nodeName string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if loopback(local) && !meansThisMachine(r.Host, nodeName) {
			turnAway(w, http.StatusForbidden, "Forbidden: the Host header names neither localhost, nor this node, nor an IP address.\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// meansThisMachine judges a Host header. Without one the client is no browser.
func meansThisMachine(host, nodeName string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"), ".")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return host == "" || strings.EqualFold(name, "localhost") || nodeName != "" && strings.EqualFold(name, nodeName)
}
