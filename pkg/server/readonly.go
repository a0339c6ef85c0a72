package server

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// podsHandler answers with a v1.PodList of all pods, statuses included.
func podsHandler(pods Pods) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodHead {
			return
		}
		list := v1.PodList{
			TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"},
			Items:    []v1.Pod{},
		}
		for _, p := range pods.Pods() {
			list.Items = append(list.Items, *p)
		}
		// The encoder writes only once all is encoded, so a failure leaves nothing
		// half said; what fails after that is the client's connection.
		if err := json.NewEncoder(w).Encode(&list); err != nil {
			klog.V(4).InfoS("Client did not take the list of pods", "err", err, "client", r.RemoteAddr)
		}
	})
}

func metricsHandler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	})
}
