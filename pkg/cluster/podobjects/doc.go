// Package objects has what pods take from the API server besides themselves:
// ConfigMaps, Secrets, service-account tokens, services of their namespaces,
// RuntimeClasses, trust bundles, persistent volume claims.
//
//	agent ──Register(pod)──▶ Cache ──▶ one watch an object, while a pod refers to it
//	volume, criconfig, image ──ConfigMap, Secret──▶ │ ──Changed──▶ agent: sync these pods
//	volume ──Token──▶ Tokens ──TokenRequest──▶ API server
//
// The Node authorizer lets a node read only objects that its pods name, one by
// one: so there is no informer of all, but a watch of each; of services, classes and
// trust bundles it may read all. Answers come from memory, also while the API server
// is away. Claims it may only get: they are asked for, and while a pod waits for one
// it is looked at each second. On a standalone node Local has the objects of the
// manifests in their place, and binds claims itself: binding.go.
package podobjects
