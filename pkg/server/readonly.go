package server

import (
	"net/http"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podsHandler answers with a v1.PodList of all pods, statuses included.
func podsHandler(pods Pods) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { writePods(w, r, pods.Pods()) })
}

func writePods(w http.ResponseWriter, r *http.Request, pods []*v1.Pod) {
	list := v1.PodList{
		TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"},
		Items:    []v1.Pod{},
	}
	for _, p := range pods {
		list.Items = append(list.Items, *p)
	}
	writeJSON(w, r, &list)
}
