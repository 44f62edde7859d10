package main

import (
	"encoding/json"
	"net/http"
)

// problem is an answer that says what went wrong (RFC 9457). Its kind is one of auth, quota, policy,
// not-found, capacity, timeout and defect.
type problem struct {
	Kind   string `json:"type"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func (p problem) write(response http.ResponseWriter) {
	response.Header().Set("Content-Type", "application/problem+json")
	response.WriteHeader(p.Status)
	json.NewEncoder(response).Encode(p)
}

func badRequest(detail string) problem {
	return problem{"policy", http.StatusBadRequest, detail}
}
