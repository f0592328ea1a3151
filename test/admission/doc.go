// Package admission tests what a real API server makes of Heddle's webhooks: which pods and ConfigMaps it asks about, what
// becomes of them and of those it does not ask about, while the webhooks answer, are slow, change their certificate, or
// are gone; what people read then; and what the control plane writes back, and may write.
//
// The objects are those of the chart, but that the API server finds the webhooks by URL: here are no Services.
//
//	world_test.go  the API server, the webhooks on a listener of this process, and what tests write
//	plane_test.go  a control plane that judges policies and writes their status
//	*_test.go      the tests, by what they are about
package admission
