// Package podobjects provides what pods take from the API server besides themselves:
// ConfigMaps, Secrets, service-account tokens, services of their namespaces,
// RuntimeClasses, trust bundles, persistent volume claims.
//
//	agent ──Register(pod)──▶ Cache ──▶ one watch an object, while a pod refers to it
//	volume, criconfig, image ──ConfigMap, Secret──▶ │ ──Changed──▶ agent: sync these pods
//	volume ──Token──▶ Tokens ──TokenRequest──▶ API server
//
// The Node authorizer lets a node read only objects that its pods name, one by one: so
// each has a watch of its own instead of one informer for all. Services, classes and trust
// bundles it may read as a whole. Answers come from memory, even while the API server is
// away. Claims it may only get: they are asked for at each call, and once a second while a
// pod waits for one. On a standalone node Local provides the objects of the manifests
// instead, and binds claims itself: binding.go.
package podobjects
