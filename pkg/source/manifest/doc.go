// Package manifest makes pods, and the objects that they use, of what somebody wrote:
//
//	text ─ split ─▶ documents ─ decode, explain ─▶ defaults ─▶ validate ─▶ identify ─▶ Document
//
// Defaults and validation are the API server's, in its words; what is wrong is a Problem with
// file, document, line and field. Of a document that has failed what it last gave stays
// (KeepFailed). It is pure: files, requests and times are the sources' (package source).
package manifest
