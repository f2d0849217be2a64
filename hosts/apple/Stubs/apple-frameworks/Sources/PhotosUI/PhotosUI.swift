import Foundation
import SwiftUI

public struct PHPickerFilter: Sendable {
    public static let images = PHPickerFilter()
}

public struct PhotosPickerItem: Equatable, Sendable {
    public func loadTransferable(type: Data.Type) async throws -> Data? { fatalError() }
}

public struct PhotosPicker: Leaf {
    public init(
        _ title: String, selection: Binding<PhotosPickerItem?>, matching filter: PHPickerFilter?
    ) {}
}
