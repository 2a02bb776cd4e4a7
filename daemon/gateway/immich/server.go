package immich

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// The version of the interface that this package speaks. Its clients refuse
// servers of another major version, and want it to be a semantic one.
const (
	major = 3
	minor = 2
	patch = 2
)

type object = map[string]any

func (h *Handler) signpost(v *visit) error {
	return v.answer(http.StatusOK, object{"api": object{"endpoint": "/api"}})
}

func (h *Handler) ping(v *visit) error { return v.answer(http.StatusOK, object{"res": "pong"}) }

func (h *Handler) version(v *visit) error {
	return v.answer(http.StatusOK, object{"major": major, "minor": minor, "patch": patch, "prerelease": nil})
}

func (h *Handler) about(v *visit) error {
	return v.answer(http.StatusOK, object{
		"version": fmt.Sprintf("v%d.%d.%d", major, minor, patch), "versionUrl": "", "licensed": false,
	})
}

// features says that the box has none of the gallery's.
func (h *Handler) features(v *visit) error {
	doc := object{}
	for _, name := range []string{
		"configFile", "duplicateDetection", "email", "facialRecognition", "importFaces", "map", "oauth", "oauthAutoLaunch", "ocr",
		"passwordLogin", "realtimeTranscoding", "reverseGeocoding", "search", "sidecar", "smartSearch",
	} {
		doc[name] = false
	}
	doc["trash"] = true
	return v.answer(http.StatusOK, doc)
}

func (h *Handler) config(v *visit) error {
	return v.answer(http.StatusOK, object{
		"externalDomain": "", "isInitialized": true, "isOnboarded": true, "loginPageMessage": "", "maintenanceMode": false,
		"mapDarkStyleUrl": "", "mapLightStyleUrl": "", "minFaces": 0, "oauthButtonText": "", "publicUsers": false,
		"trashDays": 0, "userDeleteDelay": 0,
	})
}

// The extensions of pictures and films. The programs send files with these only,
// so the lists are long; the box itself keeps files of any kind.
var (
	images = strings.Fields(`.3fr .arw .avif .bmp .cap .cin .cr2 .cr3 .crw .dcr .dng .erf .fff .gif .heic .heif .hif .iiq .insp
		.jfif .jp2 .jpe .jpeg .jpg .jxl .k25 .kdc .mpo .mrw .nef .nrw .orf .ori .pef .png .psd .raf .raw .rw2 .rwl .sr2 .srf .srw
		.svg .tif .tiff .webp .x3f`)
	videos = strings.Fields(`.3gp .3gpp .avi .flv .insv .m2t .m2ts .m4v .mkv .mov .mp4 .mpe .mpeg .mpg .mts .mxf .ts .vob .webm .wmv`)
)

func (h *Handler) mediaTypes(v *visit) error {
	return v.answer(http.StatusOK, object{"image": images, "video": videos, "sidecar": []string{".xmp"}})
}

// typeOf is the protocol's type of a file, by its extension alone.
func typeOf(name string) string {
	switch ext := strings.ToLower(path.Ext(name)); {
	case slices.Contains(images, ext):
		return "IMAGE"
	case slices.Contains(videos, ext):
		return "VIDEO"
	}
	return "OTHER"
}

// me describes who asks. The box knows no e-mail addresses: what stands there has
// the form of one and leads nowhere (RFC 6761 §6.4).
func (h *Handler) me(v *visit) error {
	usage, err := h.catalog.Usage(v.r.Context(), v.who.User)
	if err != nil {
		return err
	}
	var quota any
	if usage.Quota >= 0 {
		quota = usage.Quota
	}
	id := uuid(ofUser, int64(v.who.User))
	created := moment(time.UnixMilli(int64(v.who.User) >> 21)) // see ident.New
	return v.answer(http.StatusOK, object{
		"id": id, "name": v.who.Name, "email": v.who.User.String() + "@box.invalid", "isAdmin": v.who.Admin(), "status": "active",
		"avatarColor": "primary", "profileImagePath": "", "profileChangedAt": created, "storageLabel": nil, "shouldChangePassword": false,
		"createdAt": created, "updatedAt": created, "deletedAt": nil, "oauthId": "", "license": nil,
		"quotaSizeInBytes": quota, "quotaUsageInBytes": usage.Bytes,
	})
}

// key describes the token that was sent. Of what there is here it opens all.
func (h *Handler) key(v *visit) error {
	created := moment(time.UnixMilli(v.who.Session >> 21))
	return v.answer(http.StatusOK, object{
		"id": uuid(ofToken, v.who.Session), "name": "app token", "permissions": []string{"all"}, "createdAt": created, "updatedAt": created,
	})
}

// idle is the state of every queue of jobs: the box has none by these names.
func idle() object {
	return object{
		"jobCounts":   object{"active": 0, "completed": 0, "delayed": 0, "failed": 0, "paused": 0, "waiting": 0},
		"queueStatus": object{"isActive": false, "isPaused": false},
	}
}

func (h *Handler) jobs(v *visit) error { return v.answer(http.StatusOK, object{}) }

// job answers the orders to pause or start a queue, which immich-go gives before
// and after an upload: there is nothing that could run or be paused.
func (h *Handler) job(v *visit) error { return v.answer(http.StatusOK, idle()) }
