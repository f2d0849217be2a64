// A question about a photo on an iPhone. The bundle is the one folder in the app's Documents.

import PhotosUI
import SwiftUI
import VlmHost

@main
struct VlmApp: App {
    var body: some Scene {
        WindowGroup { AskView() }
    }
}

struct AskView: View {
    @State private var photo: PhotosPickerItem?
    @State private var image: CGImage?
    @State private var question = "What is in the picture?"
    @State private var reply = ""
    @State private var bundle: VlmBundle?
    @State private var isBusy = false

    var body: some View {
        VStack {
            if let image {
                Image(decorative: image, scale: 1).resizable().scaledToFit()
            }
            PhotosPicker("Choose a photo", selection: $photo, matching: .images)
            TextField("Question", text: $question)
            Button("Ask") { Task { await ask() } }
                .disabled(isBusy || image == nil)
            ScrollView { Text(reply) }
        }
        .padding()
        .task(id: photo) { await open() }
    }

    /// Opens the photo that was chosen.
    @MainActor
    private func open() async {
        do {
            guard let file = try await photo?.loadTransferable(type: Data.self) else { return }
            image = try uprightPicture(from: file)
        } catch {
            reply = error.localizedDescription
        }
    }

    /// Answers the question. The first one waits for the bundle, which is specialized on the device.
    @MainActor
    private func ask() async {
        guard let image else { return }
        isBusy = true
        defer { isBusy = false }
        reply = "…"
        do {
            if bundle == nil {
                bundle = try await VlmBundle(at: folder())
            }
            reply = try await bundle?.answer(to: question, about: image) ?? ""
        } catch {
            reply = error.localizedDescription
        }
    }

    /// The folder in Documents that has a manifest.
    private func folder() throws -> URL {
        let files = FileManager.default
        let folders = try files.contentsOfDirectory(
            at: .documentsDirectory, includingPropertiesForKeys: nil)
        for folder in folders
        where files.fileExists(atPath: folder.appending(path: "metadata.json").path) {
            return folder
        }
        throw HostError("there is no bundle yet: copy its folder into this app's Documents")
    }
}
