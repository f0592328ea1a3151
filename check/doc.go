// Package check judges a cluster: what heddle check prints. It is pure: [Facts] in, a [Report] out. Package gather asks the
// cluster for the facts.
//
// A check has a name that stays the same over versions, so that scripts may look for it, a description that says what is so
// when it passes, and, when it does not, a reason that names the object and a hint that says what to do next. A fact that
// could not be read fails the checks that stand on it, with the error as the reason. What another check's failure makes
// pointless is skipped, and says behind which one.
package check
